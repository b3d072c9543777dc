"""One architecture trained on a fixed budget and tested, through MMEngine's Runner."""

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

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
from .study import file_name

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
) -> Config:
    """The config that trains ``arch`` on ``data`` for ``epochs`` and tests its last weights.

    It is the config that is written for an image folder and this length, for other data the one that a search
    writes, its schedule shortened in proportion; without progressive tokenization, stochastic depth and
    checkpoints. The seed is the same for every architecture, so that all of them see the same images in the
    same order.

    Args:
        workers: processes that load the images; 0: the training process itself.
        validate: whether to validate after every epoch, on the images of the test.

    Raises:
        InputError: data without labels or validation set, missing data, or a schedule that does not
            count epochs.
    """
    if data.kind == 'imagenet':
        raise InputError(
            f'{data.spec!r} has no labels to train on: give digits, an image folder with train/ and '
            'val/, or an mmpretrain config'
        )
    plan = recipe(data)
    if not plan.by_epoch:
        raise InputError(
            f'{data.root!r} trains by iterations and a study by epochs: give it a train_cfg with '
            'max_epochs'
        )
    options = RecipeOptions(epochs=epochs if data.kind == 'folder' else None)
    cfg = Config.fromstring(config_text(arch, data, options=options), '.py')
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
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.setdefault('collate_fn', dict(type='default_collate'))
        loader.num_workers = workers
        loader.persistent_workers = workers > 0 and loader.get('persistent_workers', True)
        loader.pin_memory = torch.cuda.is_available()
    for part in ('dataloader', 'evaluator', 'cfg'):
        cfg[f'val_{part}'] = cfg[f'test_{part}'] if validate else None
    cfg.model.backbone.pop('drop_path_rate', None)
    hooks = cfg.get('custom_hooks') or []
    cfg.custom_hooks = [hook for hook in hooks if not is_token_hook(hook)]
    cfg.setdefault('default_hooks', {})['checkpoint'] = None
    cfg.randomness = dict(seed=seed)
    cfg.launcher = 'none'
    cfg.load_from, cfg.resume = None, False
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
        top1: of the last weights on the validation set, in per cent.
        curve: top1 of every validation during the run, if the config has any.
        seconds: of all iterations, the loading of their images included, validation not.
        at_strides: top1 at further token strides.
    """

    top1: float
    curve: list[float]
    seconds: float
    at_strides: dict[str, float]


def train_and_test(
    cfg: Config, study: Path, name: str, device: torch.device, strides: Sequence[int] = ()
) -> Trained:
    """Train ``cfg``, then test the last weights, also at further token ``strides``.

    Args:
        cfg: of :func:`training_config`.
        study: folder of the study; logs/NAME.log there is the Runner's log, which is not printed, and what
            else the Runner writes is removed.
        name: of the training in the study.

    Raises:
        InputError: it fails; logs/NAME.traceback.txt says where.
    """
    name = file_name(name)
    folder, log = study / 'training' / name, study / 'logs' / f'{name}.log'
    log.parent.mkdir(parents=True, exist_ok=True)
    # The name tells the logger and counts of this run from those of another in this process.
    cfg.work_dir, cfg.experiment_name = str(folder), f'{name}-{time.time_ns()}'
    name_images()
    try:
        # Printed, the Runner's log would break into the progress bar.
        with (
            log.open('w', encoding='utf-8') as file,
            redirect_stdout(file),
            config_failures(cfg, f'training {name} failed', log.with_suffix('.traceback.txt')),
        ):
            runner = Runner.from_cfg(cfg)
            try:
                runner.model.to(device)
                check_loaders(runner, ['train_dataloader', 'test_dataloader'])
                runner.train()
                top1 = float(runner.test()['accuracy/top1'])
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
        seconds = round(float(scalars['train/time'].data[0].sum()), 3)
        return Trained(top1, curve, seconds, at_strides)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
