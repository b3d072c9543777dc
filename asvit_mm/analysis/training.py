"""One architecture trained on a fixed budget and tested, through MMEngine's Runner."""

import copy
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from ..arch import Architecture
from ..config_writer.configs import TOKEN_HOOK, config_text
from ..config_writer.recipes import recipe
from ..data.source import DataSource
from ..engine.config import check_data
from ..errors import InputError

# Fields of a schedule that count epochs.
_EPOCH_FIELDS = ('begin', 'end', 'T_max', 'step_size', 'total_steps')


def training_config(
    arch: Architecture, data: DataSource, *, epochs: int, seed: int = 0, workers: int = 0
) -> Config:
    """The config that trains ``arch`` on ``data`` for ``epochs`` and tests its last weights.

    It is the config that a search writes for the data, its schedule shortened in proportion, without
    progressive tokenization, stochastic depth and checkpoints. The seed is the same for every
    architecture, so that all of them see the same images in the same order.

    Args:
        workers: processes that load the images; 0: the training process itself.

    Raises:
        InputError: data without labels or validation set, missing data, or a schedule that does not
            count epochs.
    """
    if data.kind == 'imagenet':
        raise InputError(
            f'{data.images!r} has no labels to train on: give digits, an image folder with train/ and '
            'val/, or an mmpretrain config'
        )
    plan = recipe(data)
    if not plan.by_epoch:
        raise InputError(
            f'{data.root!r} trains by iterations and a study by epochs: give it a train_cfg with '
            'max_epochs'
        )
    cfg = Config.fromstring(config_text(arch, data), '.py')
    if cfg.get('val_dataloader') is None:
        raise InputError(
            f'{data.root!r} has no validation set, which the accuracy is of: '
            + ('add val/' if data.kind == 'folder' else 'add val_dataloader')
        )
    check_data(cfg, ['train_dataloader', 'val_dataloader'])
    schedule = cfg.get('param_scheduler') or []
    if isinstance(schedule, Mapping) and 'type' not in schedule:
        raise InputError(f'{data.root!r} has a schedule for each of several optimizers: give one')
    schedule = [schedule] if isinstance(schedule, Mapping) else schedule
    cfg.param_scheduler = shortened(schedule, plan.run_length, epochs)
    cfg.train_cfg = dict(by_epoch=True, max_epochs=epochs)
    # The last weights are tested once, after the run.
    cfg.test_dataloader = cfg.val_dataloader
    cfg.test_evaluator = dict(type='Accuracy', topk=(1,))
    cfg.test_cfg = dict()
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.setdefault('collate_fn', dict(type='default_collate'))
        loader.num_workers = workers
        loader.persistent_workers = workers > 0
        loader.pin_memory = torch.cuda.is_available()
    cfg.model.backbone.pop('drop_path_rate', None)
    hooks = cfg.get('custom_hooks') or []
    cfg.custom_hooks = [hook for hook in hooks if not TOKEN_HOOK.endswith(str(hook['type']))]
    cfg.setdefault('default_hooks', {})['checkpoint'] = None
    cfg.randomness = dict(seed=seed)
    cfg.launcher = 'none'
    cfg.load_from, cfg.resume = None, False
    return cfg


def with_validation(cfg: Config) -> Config:
    """``cfg`` of :func:`training_config` with a validation after every epoch, on the images of the test."""
    cfg = copy.deepcopy(cfg)
    cfg.val_dataloader, cfg.val_evaluator = cfg.test_dataloader, cfg.test_evaluator
    cfg.val_cfg = dict()
    cfg.train_cfg.val_interval = 1
    return cfg


def shortened(
    schedule: Sequence[Mapping[str, Any]], before: int, after: int
) -> list[dict[str, Any]]:
    """A schedule of ``before`` epochs in ``after``, every boundary in proportion.

    A boundary past 0 stays past 0, so a warm-up never vanishes; what has no epoch left after
    rounding does. Schedulers that count iterations are left as they are.
    """

    def scaled(epoch: Any) -> Any:
        return epoch if not epoch or math.isinf(epoch) else max(1, round(epoch * after / before))

    result = []
    for scheduler in map(dict, schedule):
        if scheduler.get('by_epoch', True):
            for name in _EPOCH_FIELDS:
                if scheduler.get(name) is not None:
                    scheduler[name] = scaled(scheduler[name])
            if 'milestones' in scheduler:
                scheduler['milestones'] = sorted(set(map(scaled, scheduler['milestones'])))
            if scheduler.get('begin', 0) >= scheduler.get('end', after):
                continue
            if 'T_max' in scheduler:  # a whole cosine stays whole where its ends were rounded
                span = scheduler.get('end', after) - scheduler.get('begin', 0)
                scheduler['T_max'] = min(scheduler['T_max'], span)
        result.append(scheduler)
    return result


class Trained(NamedTuple):
    """What came of a training.

    Attributes:
        figures: top1: in per cent, of the validation set; val_loss: mean cross-entropy there, in nats;
            train_loss: mean of the recipe's loss over the last epoch. None where a loss is not finite.
        curve: top1 of every validation on the way, if the config has any.
        seconds: of all iterations, the loading of their images included, validation not.
    """

    figures: dict[str, float | None]
    curve: list[float]
    seconds: float


def train_and_test(cfg: Config, study: Path, index: int, device: torch.device) -> Trained:
    """Train ``cfg``, then test the last weights.

    Args:
        cfg: of :func:`training_config`, or of :func:`with_validation`. study: folder of the study;
        logs/INDEX.log there is the Runner's log, which is not printed, and what else
            the Runner writes is removed.
        index: of the training in the study, from 0 on.
    """
    name = f'{index:03d}'
    folder, log = study / 'training' / name, study / 'logs' / f'{name}.log'
    shutil.rmtree(folder, ignore_errors=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    # The name tells the logger and counts of this run from those of another in this process.
    cfg.work_dir, cfg.experiment_name, cfg.log_file = str(folder), f'{study.name}-{name}', str(log)
    runner = _QuietRunner.from_cfg(cfg)
    try:
        runner.model.to(device)
        runner.train()
        scalars = runner.message_hub.log_scalars
        train_loss = float(scalars['train/loss'].mean(len(runner.train_dataloader)))
        seconds = float(scalars['train/time'].data[0].sum())
        validations = scalars.get('val/accuracy/top1')
        curve = [] if validations is None else validations.data[0].tolist()
        runner.test_evaluator.metrics.append(CrossEntropy())
        metrics = runner.test()
    finally:
        for handler in runner.logger.handlers:
            handler.close()
        runner.logger.handlers.clear()
        shutil.rmtree(folder, ignore_errors=True)
    found = {
        'top1': float(metrics['accuracy/top1']),
        'val_loss': float(metrics['cross_entropy/mean']),
        'train_loss': train_loss,
    }
    figures = {key: value if math.isfinite(value) else None for key, value in found.items()}
    return Trained(figures, curve, seconds)


class CrossEntropy(BaseMetric):
    """Mean of -log p of the right class, in nats, from the classes' probabilities.

    Finer than the accuracy, which on few images comes in steps. A probability that has underflowed
    counts as the smallest normal float32.
    """

    default_prefix = 'cross_entropy'

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep -log p of each sample (``pred_score`` (classes,), ``gt_label`` (1,))."""
        for sample in data_samples:
            score = sample['pred_score'].double().cpu()
            p = score[int(sample['gt_label'])].clamp(min=torch.finfo(torch.float32).tiny)
            self.results.append(-p.log().item())

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        """Their mean."""
        return {'mean': math.fsum(results) / len(results)}


class _QuietRunner(Runner):
    """A Runner whose log goes to the file ``cfg.log_file`` and nowhere else."""

    def build_logger(
        self, log_level: int | str = 'INFO', log_file: str | None = None, **kwargs: Any
    ) -> MMLogger:
        logger = super().build_logger(log_level, self.cfg.log_file, **kwargs)
        # A handler of the screen would break into the progress bar.
        logger.handlers[:] = [
            handler for handler in logger.handlers if hasattr(handler, 'baseFilename')
        ]
        return logger
