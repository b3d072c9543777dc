"""Lengths of a recipe as shares of the run, so that they hold for any number of epochs."""

import math
from typing import Any

from mmengine.hooks import Hook
from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import INF, _ParamScheduler
from mmengine.runner import Runner

from ..errors import InputError
from ..registry import HOOKS, PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class WarmupCosineLR(LRSchedulerMixin, _ParamScheduler):
    """Linear warm-up over a share of the run, then cosine decay to a share of the learning rate.

    MMEngine's LinearLR and CosineAnnealingLR count epochs, so a shorter run than theirs ends within the
    warm-up or fails, and their ``eta_min`` stays where it is when the rate is scaled. Here the Runner sets
    ``end`` to the run's length, and every rate is a factor of the parameter group's own.

    Args:
        optimizer: whose learning rates are set.
        warmup: share of the run, from 0 to below 1, over which the rate grows.
        eta_min_ratio: rate at the end relative to the highest.
        begin, end, last_step, by_epoch, verbose: as MMEngine's schedulers have them. A config gives
            ``convert_to_iter_based=True`` for a new rate in every iteration.

    Raises:
        InputError: a share outside of its range.
    """

    def __init__(
        self,
        optimizer: Any,
        warmup: float = 0.05,
        eta_min_ratio: float = 0.01,
        begin: int = 0,
        end: int = INF,
        last_step: int = -1,
        by_epoch: bool = True,
        verbose: bool = False,
    ) -> None:
        if not 0 <= warmup < 1 or not 0 <= eta_min_ratio <= 1:
            raise InputError(
                f'WarmupCosineLR: warmup = {warmup!r} and eta_min_ratio = {eta_min_ratio!r} are shares of '
                'the run and of the learning rate: give numbers from 0 to 1'
            )
        self.warmup, self.eta_min_ratio = warmup, eta_min_ratio
        super().__init__(optimizer, begin, end, last_step, by_epoch, verbose)

    @classmethod
    def build_iter_from_epoch(
        cls,
        optimizer: Any,
        epoch_length: int,
        begin: int = 0,
        end: int = INF,
        by_epoch: bool = True,
        **kwargs: Any,
    ) -> 'WarmupCosineLR':
        """The scheduler with ``begin`` and ``end`` in iterations, from one that counts epochs."""
        begin, end = int(begin * epoch_length), end if end == INF else int(end * epoch_length)
        return cls(optimizer, begin=begin, end=end, by_epoch=False, **kwargs)

    def factor(self, step: int) -> float:
        """Learning rate at ``step``, from 0 to the run's length, relative to the highest."""
        length = self.end - self.begin
        ramp = self.warmup * length
        if step < ramp:
            return min(1.0, (step + 1) / ramp)
        done = (step - ramp) / (length - ramp)
        return self.eta_min_ratio + (1 - self.eta_min_ratio) * (1 + math.cos(math.pi * done)) / 2

    def _get_value(self) -> list[float]:
        factor = self.factor(self.last_step)
        return [value * factor for value in self.base_values]


@HOOKS.register_module()
class EndMixingHook(Hook):
    """Trains the last epochs without Mixup and CutMix, on images as they are in use.

    What holds in an epoch follows from its number alone, so a resumed run is the same.

    Args:
        share: of the run after which images are no longer mixed.

    Raises:
        InputError: a share that is not between 0 and 1.
    """

    def __init__(self, share: float = 0.9) -> None:
        if not 0 <= share <= 1:
            raise InputError(
                f'EndMixingHook: share = {share!r} of the run: give a number from 0 to 1'
            )
        self.share = share

    def before_train_epoch(self, runner: Runner) -> None:
        """Remove the batch augmentations once the share of the run is over."""
        model = getattr(runner.model, 'module', runner.model)
        over = runner.epoch >= self.share * runner.max_epochs
        if over and getattr(model.data_preprocessor, 'batch_augments', None) is not None:
            model.data_preprocessor.batch_augments = None
            runner.logger.info(f'Mixup and CutMix end with epoch {runner.epoch}.')
