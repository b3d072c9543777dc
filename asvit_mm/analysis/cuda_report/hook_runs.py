"""Runs of MMEngine's Runner with progressive tokenization, mixed precision and deterministic algorithms."""

from contextlib import suppress
from functools import cached_property
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from torch.utils.data import Dataset

from ...models.classifier import classifier_config
from ...token_schedule import STRIDES
from .rows import Context, Figures, check


class Bars(Dataset):
    """16 images of 32 x 32 pixels with a bar, horizontal or vertical."""

    def __len__(self) -> int:
        return 16

    def __getitem__(self, i: int) -> dict[str, Any]:
        image = torch.zeros(3, 32, 32)
        image[:, 2 * (i // 2) : 2 * (i // 2) + 2] = 1
        image = image.mT.contiguous() if i % 2 else image
        return dict(inputs=image, data_samples=DataSample().set_gt_label(i % 2))


class _Recorder(Hook):
    """The token stride of every iteration; optionally stops the run before one."""

    priority = 'LOWEST'

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at
        self.strides: list[int] = []

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter == self.stop_at:
            raise InterruptedError
        self.strides.append(runner.model.backbone.token_stride)


class HookRuns:
    """Three phases of two epochs by MMEngine's Runner, whole and interrupted."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def run(self, name: str, stop_at: int | None = None, resume: bool = False) -> dict[str, Any]:
        """Train; returns the weights, and the strides under ``'strides'``."""
        cuda = self.context.device == 'cuda'
        recorder = _Recorder(stop_at)
        amp = dict(type='AmpOptimWrapper', loss_scale='dynamic') if cuda else {}
        phases = [dict(end=2 * i, stride=s) for i, s in enumerate(STRIDES, start=1)]
        runner = Runner(
            model=classifier_config('4,2,2|2,1,2|2,1,2|2,1,2|16', 2, img_size=32),
            work_dir=str(self.context.folder / name),
            train_dataloader=dict(
                batch_size=8,
                num_workers=0,
                dataset=Bars(),
                sampler=dict(type='DefaultSampler', shuffle=True),
                collate_fn=dict(type='default_collate'),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=6),
            optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3), **amp),
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
            custom_hooks=[
                dict(type='asvit_mm.ProgressiveTokenizationHook', phases=phases),
                recorder,
            ],
            randomness=dict(seed=0, deterministic=True),
            default_scope='mmpretrain',
            experiment_name=f'{name}-{stop_at}-{resume}',
            log_level='ERROR',
            resume=resume,
        )
        if not cuda:
            runner.model.cpu()
        try:
            runner.train()
        finally:
            torch.use_deterministic_algorithms(False)
            torch.backends.cudnn.deterministic = False
        weights = {key: value.cpu() for key, value in runner.model.state_dict().items()}
        return {**weights, 'strides': recorder.strides}

    @cached_property
    def whole(self) -> dict[str, Any]:
        """The uninterrupted run."""
        return self.run('whole')

    def check_phases(self) -> Figures:
        """All phases are trained, and a second run gives the same weights to the last bit."""
        first, second = self.whole, self.run('again')
        strides = list(dict.fromkeys(first['strides']))
        return _same(first, second, strides=strides, right=strides == list(STRIDES))

    def check_resumed(self) -> Figures:
        """Stopped in the second phase and resumed, to the last bit what the whole run gives."""
        with suppress(InterruptedError):
            self.run('cut', stop_at=7)
        resumed = self.run('cut', resume=True)
        strides = resumed['strides']
        return _same(self.whole, resumed, strides=strides, right=strides == [8, 8, 4, 4, 4, 4])


def _same(first: dict[str, Any], second: dict[str, Any], *, right: bool, **figures: Any) -> Figures:
    tensors = [key for key in first if key != 'strides']
    finite = all(first[key].isfinite().all() for key in tensors)
    difference = max(float((first[key] - second[key]).abs().max()) for key in tensors)
    result = check(difference, 0.0, **figures)
    return {**result, 'passed': result['passed'] and finite and right}
