"""MMEngine's CheckpointHook, except that a training can be killed at any moment and resumed."""

import os
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from ...utils.files import atomic_write_text


class ResumableCheckpointHook(CheckpointHook):
    """Removes an old checkpoint when the new one is written and ``last_checkpoint`` names it, not before.

    With ``max_keep_ckpts=1`` MMEngine has no checkpoint at all for a while, and a run that is killed then
    cannot go on. It also forgets the score of a validation in which it is killed, and with it which
    checkpoint is the best: here a resumed run validates where it goes on from, if ``save_best`` is set and
    the checkpoint does not hold that score already. Both MMEngine's loops, by epochs and by iterations.

    The arguments are those of MMEngine's hook, which the Runner of our tools replaces by this one.
    """

    def before_train(self, runner: Runner) -> None:
        """Prepare as MMEngine does, then validate if a resumed run has not validated its checkpoint."""
        super().before_train(runner)
        loop = runner.train_loop
        if isinstance(loop, EpochBasedTrainLoop):
            now, end = loop.epoch, loop.max_epochs
        elif isinstance(loop, IterBasedTrainLoop):
            now, end = loop.iter, loop.max_iters
        else:
            return
        if not (self.save_best and runner._resume) or runner.val_loop is None:
            return
        if runner.message_hub.runtime_info.get('iter_validated') == loop.iter:
            return
        loop._decide_current_val_interval()
        if now >= max(1, loop.val_begin) and (now % loop.val_interval == 0 or now == end):
            runner.val_loop.run()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Record what was validated in the checkpoint that MMEngine writes again after a new best score."""
        # Schedulers that depend on the score have stepped by now: another validation would step them twice.
        # What begins with 'val' would be logged.
        runner.message_hub.update_info('iter_validated', runner.iter)
        super().after_val_epoch(runner, metrics)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        outdated = []
        if self.max_keep_ckpts > 0 and list(self.keep_ckpt_ids)[-1:] != [step]:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                outdated.append(self.keep_ckpt_ids.popleft())
            self.keep_ckpt_ids.append(step)
            # With the outdated: a run that is killed before it is removed removes it when resumed.
            kept = [*outdated, *self.keep_ckpt_ids]
            runner.message_hub.update_info('keep_ckpt_ids', kept)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if not is_main_process():
            return
        atomic_write_text(Path(runner.work_dir) / 'last_checkpoint', self.last_ckpt)
        for one in outdated:
            path = self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(one))
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)
            elif self.file_backend.isdir(path):  # a folder of DeepSpeed's
                self.file_backend.rmtree(path)


def save_whole(save: Any, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
    """Call a Runner's ``save_checkpoint`` so that a local file is whole or not there."""
    if '://' in str(out_dir):
        save(out_dir, filename, *args, **kwargs)
        return
    part = Path(out_dir) / f'{filename}.part'
    save(out_dir, part.name, *args, **kwargs)
    if is_main_process() and part.is_file():
        os.replace(part, Path(out_dir) / filename)
