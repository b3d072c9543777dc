"""One architecture trained on a fixed budget and tested, through MMEngine's Runner."""

import copy
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from ..arch import Architecture
from ..config_writer.configs import config_text
from ..config_writer.recipes import RecipeOptions, recipe
from ..data.source import DataSource
from ..engine.config import check_data, is_token_hook
from ..engine.failures import config_failures, name_images
from ..engine.runner import check_loaders
from ..engine.token_grids import set_token_stride
from ..errors import InputError
from ..utils.files import file_name

# Fields of a schedule that count epochs.
_EPOCH_FIELDS = ('begin', 'end', 'T_max', 'step_size', 'total_steps')


def training_config(
    arch: Architecture,
    data: DataSource,
    *,
    epochs: int,
    seed: int = 0,
    workers: int = 0,
    validate: bool = False,
    split: 'Split | None' = None,
) -> Config:
    """The config that trains ``arch`` on ``data`` for ``epochs`` and tests its last weights.

    It is the config that is written for an image folder and this length, for other data the one that a search
    writes, its schedule shortened in proportion; without progressive tokenization, stochastic depth and
    checkpoints. The seed is the same for every architecture, so that all of them see the same images in the
    same order.

    Args:
        workers: processes that load the images; 0: the training process itself.
        validate: whether to validate after every epoch, on the images of the test.
        split: which of the training images to train and to test on; None: to test on the validation set.

    Raises:
        InputError: data without labels, with several an image or without validation set, missing data, or a
            schedule that does not count epochs.
    """
    if data.kind == 'imagenet':
        raise InputError(
            f'{data.spec!r} has no labels to train on: give digits, an image folder with train/ and '
            'val/, or an mmpretrain config'
        )
    if data.given_head is not None:
        raise InputError(
            f'{data.root!r} has images of several labels, and networks are compared by the accuracy of one: '
            'give other data, or leave --finalists out'
        )
    # The recipe of an image folder fits any length; others are shortened.
    options = RecipeOptions(epochs=epochs) if data.kind == 'folder' else RecipeOptions()
    plan = recipe(data, options)
    if not plan.by_epoch:
        raise InputError(
            f'{data.root!r} trains by iterations, which cannot be shortened: give it a train_cfg with '
            'max_epochs'
        )
    cfg = Config.fromstring(config_text(arch, data, options=options), '.py')
    if split is not None:
        _hold_out(cfg, data, split)
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
    cfg.train_cfg = dict(by_epoch=True, max_epochs=epochs, val_interval=1)
    # The last weights are tested once, after the run.
    cfg.test_dataloader, cfg.test_cfg = cfg.val_dataloader, dict()
    cfg.test_evaluator = dict(type='Accuracy', topk=(1,))
    hooks = [hook for hook in cfg.get('custom_hooks') or [] if not is_token_hook(hook)]
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.setdefault('collate_fn', dict(type='default_collate'))
        loader.num_workers = workers
        loader.persistent_workers = workers > 0 and loader.get('persistent_workers', True)
        loader.pin_memory = torch.cuda.is_available()
    for part in ('dataloader', 'evaluator', 'cfg'):
        cfg[f'val_{part}'] = cfg[f'test_{part}'] if validate else None
    cfg.model.backbone.pop('drop_path_rate', None)
    cfg.custom_hooks = hooks
    cfg.setdefault('default_hooks', {})['checkpoint'] = None
    cfg.randomness = dict(seed=seed)
    cfg.launcher = 'none'
    cfg.load_from, cfg.resume = None, False
    return cfg


@dataclass(frozen=True)
class Split:
    """Training images by their indices, some to train on and some to test on.

    Attributes:
        trained: number of images to train on, evenly spread over those that are not held out.
        every: one of so many images is held out. They are drawn at random, always alike, as every so many-th
            may be of one class.
        total: number of training images.
    """

    trained: int
    every: int
    total: int

    @property
    def held_out(self) -> list[int]:
        """Indices of the images to test on."""
        drawn = np.random.default_rng(0).permutation(self.total)[: self.total // self.every]
        return sorted(drawn.tolist())

    @property
    def training(self) -> list[int]:
        """Indices of the images to train on."""
        rest = np.setdiff1d(np.arange(self.total), self.held_out)
        return rest[np.linspace(0, len(rest) - 1, self.trained).round().astype(int)].tolist()


def _hold_out(cfg: Config, data: DataSource, split: Split) -> None:
    """Let a config train on part of its training images, and validate on another part of them."""
    own = cfg.get('val_dataloader') or {}
    pipeline = (own.get('dataset') or {}).get('pipeline') or cfg.get('test_pipeline')
    if pipeline is None:
        raise InputError(
            f'{data.root!r} does not say how images are validated: add val_dataloader or test_pipeline'
        )
    held = copy.deepcopy(cfg.train_dataloader)
    held.pop('batch_sampler', None)
    whole = held.dataset.get('indices')
    held.dataset.update(pipeline=pipeline, indices=_among(whole, split.held_out, split.total))
    held.sampler, held.drop_last = dict(type='DefaultSampler', shuffle=False), False
    cfg.train_dataloader.dataset.indices = _among(whole, split.training, split.total)
    cfg.val_dataloader = held


def _among(indices: Sequence[int] | int | None, chosen: Sequence[int], total: int) -> list[int]:
    """Of the ``total`` images that ``indices`` of a dataset of MMEngine are, those at ``chosen``."""
    if indices is None or isinstance(indices, int):
        # The first so many or, where it is negative, the last.
        indices = range(-total, 0) if indices is not None and indices < 0 else range(total)
    return [indices[i] for i in chosen]


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
        top1: of the last weights on the validation set, in per cent.
        curve: top1 of every validation during the run, if the config has any.
        seconds: of all iterations, the loading of their images included, validation not.
        testing: seconds of the test after the run, if there was any.
        per_image: seconds per image of an iteration, as the median of all but the first.
        at_strides: top1 at further token strides.
    """

    top1: float
    curve: list[float]
    seconds: float
    testing: float
    per_image: float
    at_strides: dict[str, float]


def train_and_test(
    cfg: Config,
    root: Path,
    name: str,
    device: torch.device,
    strides: Sequence[int] = (),
    kept: Path | None = None,
) -> Trained:
    """Train ``cfg``, then test the last weights, unless they were validated, on the same images.

    They are also tested at further token ``strides``.

    Args:
        cfg: of :func:`training_config`.
        root: logs/NAME.log there is the Runner's log, which is not printed; what else it writes is removed.
        name: of the training.
        kept: the file for the traceback of a failure (default: logs/NAME.traceback.txt in ``root``).

    Raises:
        InputError: it fails; its cause is what was raised.
    """
    name = file_name(name)
    folder, log = root / 'training' / name, root / 'logs' / f'{name}.log'
    log.parent.mkdir(parents=True, exist_ok=True)
    kept = kept or log.with_suffix('.traceback.txt')
    # The name tells the logger and counts of this run from those of another in this process.
    cfg.work_dir, cfg.experiment_name = str(folder), f'{name}-{time.time_ns()}'
    name_images()
    try:
        # Printed, the Runner's log would break into the progress bar.
        with (
            log.open('w', encoding='utf-8') as file,
            redirect_stdout(file),
            config_failures(cfg, f'training {name} failed', kept),
        ):
            runner = Runner.from_cfg(cfg)
            try:
                runner.model.to(device)
                check_loaders(runner, ['train_dataloader', 'test_dataloader'])
                runner.train()
                began = time.perf_counter()
                tested = {} if cfg.val_cfg is not None else runner.test()
                testing = round(time.perf_counter() - began, 3)
                at_strides = {}
                for stride in strides:
                    set_token_stride(runner.model, stride)
                    at_strides[str(stride)] = float(runner.test()['accuracy/top1'])
            finally:
                # MMEngine keeps the logger, whose file goes with the folder.
                for handler in runner.logger.handlers:
                    handler.close()
                runner.logger.handlers.clear()
        scalars = runner.message_hub.log_scalars
        validations = scalars.get('val/accuracy/top1')
        curve = [] if validations is None else validations.data[0].tolist()
        top1 = curve[-1] if cfg.val_cfg is not None else float(tested['accuracy/top1'])
        times = scalars['train/time'].data[0]
        per_image = float(np.median(times[1:] if len(times) > 1 else times))
        per_image /= cfg.train_dataloader.batch_size
        seconds = round(float(times.sum()), 3)
        return Trained(top1, curve, seconds, testing, per_image, at_strides)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
