"""Progressive tokenization: training starts with few, coarse tokens and ends with all of them.

Paper: Auto-scaling Vision Transformers without Training, ICLR 2022 (arXiv 2202.11921), section 3.5.
Only how the first projection is applied changes, not its weights, so the optimizer, the state dict and every
checkpoint are those of an ordinary run. Similar to mmpretrain's ``SwitchRecipeHook``, except that nothing is
replayed on resume: the phase, the stride that is drawn in it and all logged values follow from the run's seed
and the number of the epoch and iteration alone.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import IterBasedTrainLoop, Runner

from ...errors import InputError
from ...registry import HOOKS
from ...token_schedule import (
    Phase,
    Schedule,
    TokenizedBackbone,
    all_strides,
    mean_cost,
    phase_at,
    phases_for,
    read_schedule,
)
from ..token_grids import find_backbones

# The backward pass costs about twice the forward pass.
FORWARD_PASSES = 3


def count_images(batch: Any) -> int:
    """Images that the backbone sees in a step, all views of each; 1 if there is no telling.

    Args:
        batch: of a data loader: a dict with ``inputs``, or with the inputs first, or a tuple or list (inputs,
            labels). Inputs are a tensor (N, C, H, W), a list of images (C, H, W), a list of views, which are
            inputs themselves, or a dict of modalities, of which ``img``, otherwise the first, counts.
    """
    if isinstance(batch, Mapping) and batch:
        named = [batch[key] for key in ('inputs', 'img') if key in batch]
        return count_images((named or list(batch.values()))[0])
    if isinstance(batch, tuple) and batch:
        return count_images(batch[0])
    if isinstance(batch, list) and batch:
        # Labels have fewer dimensions, or none.
        return sum(count_images(item) for item in batch if _ndim(item) == _ndim(batch[0]))
    return batch.shape[0] if _ndim(batch) == 4 else 1


def _ndim(value: Any) -> int:
    return getattr(value, 'ndim', 0)


@HOOKS.register_module()
class ProgressiveTokenizationHook(Hook):
    """Trains on a coarser token grid in early phases, or on grids of several strides in turn.

    In a phase with several strides (elastic tokens) one is drawn for every iteration, from the run's seed and
    the number of the iteration: the same in all processes and after a resume.

    Logs, next to the loss: ``tokens``, those of the first stage per image; ``step_gmacs``, multiply-adds of
    the backbone per training step and process, in G, with the backward pass counted as two forward passes;
    ``saved_percent``, the share of the multiply-adds of training that was saved so far; and
    ``saved_percent_of_run``, its value at the end of the run. The last two are expected values where strides
    are drawn.

    Args:
        phases: the name of a published schedule, '40-70', '80-140' or '120-210', scaled to the run's length;
            or dicts with ``end`` (increasing; integers: the epoch or iteration at which the phase ends,
            the last one the run's length; floats: fractions of the run, the last one 1.0), ``stride``
            (pixels between two tokens, a multiple of the backbone's, or a list of several), and optionally
            ``dilation`` of the patch embedding (default: what the backbone is set to), ``weights`` of several
            strides (default: all alike) and ``lr_factor``, by which the learning rate is multiplied; or these
            as a string, '16@0.25,8@0.5,4@1.0', '16|8|4@1.0'. See
            :func:`~asvit_mm.token_schedule.read_schedule`.
        by_epoch: whether ``end`` counts epochs or iterations.
        val_grid: the token grid of validation, 'full' or 'current' (that of the phase, the finest of
            several).

    Raises:
        InputError: when built: a malformed schedule; before the first iteration: a schedule that does not
            fit the run's length, the backbone or its windows, or a model without a suitable backbone.

    Example:
        >>> custom_hooks = [
        ...     dict(
        ...         type='asvit_mm.ProgressiveTokenizationHook',
        ...         phases=[
        ...             dict(end=80, stride=16),
        ...             dict(end=140, stride=8),
        ...             dict(end=300, stride=4),
        ...         ],
        ...     )
        ... ]
    """

    priority = 'NORMAL'

    def __init__(self, phases: Schedule, by_epoch: bool = True, val_grid: str = 'full') -> None:
        if val_grid not in ('full', 'current'):
            raise InputError(
                f"progressive tokenization: val_grid = {val_grid!r} is not allowed: 'full' or 'current'"
            )
        self.schedule = phases
        # With ends as given; when the run starts, they become counts.
        self.phases = read_schedule(phases)
        self.by_epoch = by_epoch
        self.val_grid = val_grid
        self._unit = 'epoch' if by_epoch else 'iteration'
        self._current: Phase | None = None
        self._rates: list[float] = []  # of the parameter groups, while a factor is in force
        self._full: dict[TokenizedBackbone, int] = {}
        self._tokens: dict[int, int] = {}
        self._macs: dict[int, float] = {}

    def before_train(self, runner: Runner) -> None:
        """Find the backbones and check the schedule against them and the run."""
        if self.by_epoch and isinstance(runner.train_loop, IterBasedTrainLoop):
            raise InputError(
                'progressive tokenization: phases in epochs, but the run counts iterations; '
                'give their ends in iterations and set by_epoch=False'
            )
        # modules() also descends into wrappers such as DistributedDataParallel.
        modules = list(runner.model.modules())
        for hook in runner.hooks:
            if hasattr(hook, 'ema_model'):
                modules += hook.ema_model.modules()
        try:
            self._full = {one: one.token_stride for one in find_backbones(modules)}
        except InputError as error:
            raise InputError(f'progressive tokenization: {error}; or remove the hook') from None
        backbone = next(iter(self._full))
        length = runner.max_epochs if self.by_epoch else runner.max_iters
        self.phases = phases_for(backbone, self.schedule, length, self._unit)
        left_out = len(read_schedule(self.schedule)) - len(self.phases)
        if left_out:
            runner.logger.warning(
                f'Progressive tokenization: {left_out} of the phases would last less than half an '
                f'{self._unit} of {length} and are left out.'
            )
        strides = {self._full[backbone], *all_strides(self.phases)}
        self._tokens = {stride: math.prod(backbone.token_grids(stride)[0]) for stride in strides}
        self._macs = {stride: float(backbone.count_macs(stride)) for stride in strides}
        self._current = None

    def before_train_epoch(self, runner: Runner) -> None:
        """Enter the epoch's phase."""
        if self.by_epoch:
            self._enter(runner, runner.epoch)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Enter the iteration's phase, draw one of its strides and set the learning rate."""
        if not self.by_epoch:
            self._enter(runner, runner.iter)
        assert self._current is not None
        if len(self._current.strides) > 1:
            self._set(self._current.pick(self._draw(runner)))
        if self._current.lr_factor != 1:
            self._rates = [group['lr'] for group in _param_groups(runner)]
            for group in _param_groups(runner):
                group['lr'] *= self._current.lr_factor

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Restore the learning rate for its schedule; log through MMEngine's message hub."""
        assert self._current is not None
        for group, rate in zip(_param_groups(runner), self._rates, strict=False):
            group['lr'] = rate
        self._rates = []
        backbone = next(iter(self._full))
        stride, full = backbone.token_stride, self._macs[self._full[backbone]]

        def saved(until: float) -> float:
            return 100 - 100 * mean_cost(self.phases, self._macs, until) / full

        end = self.phases[-1].end
        values = {
            'tokens': self._tokens[stride],
            'step_gmacs': FORWARD_PASSES * count_images(data_batch) * self._macs[stride] / 1e9,
            # All epochs have the same number of iterations.
            'saved_percent': saved((runner.iter + 1) * end / runner.max_iters),
            'saved_percent_of_run': saved(end),
        }
        if any(phase.lr_factor != 1 for phase in self.phases):
            values['lr_factor'] = self._current.lr_factor
        for name, value in values.items():
            runner.message_hub.update_scalar(f'train/{name}', value)

    def before_val(self, runner: Runner) -> None:
        """Switch to the full grid if ``val_grid`` is 'full'."""
        if self.val_grid == 'full':
            self._set(None)

    def after_val(self, runner: Runner) -> None:
        """Switch back to the grid of the current phase, if validation was part of training."""
        if self._current is not None:
            self._set(min(self._current.strides), self._current.dilation)

    def after_train(self, runner: Runner) -> None:
        """Leave the model on the full grid; from now on it is the caller's to change."""
        self._set(None)
        self._current, self._full = None, {}

    def _enter(self, runner: Runner, step: int) -> None:
        phase = phase_at(self.phases, step)
        if phase == self._current:
            return
        self._current = phase
        self._set(min(phase.strides), phase.dilation)
        dilation = next(iter(self._full)).token_dilation
        how = (
            f'one of the token strides {", ".join(map(str, phase.strides))} in each iteration'
            if len(phase.strides) > 1
            else f'token stride {phase.stride}, '
            + ('projection resized' if dilation is None else f'dilation {dilation}')
        )
        rate = '' if phase.lr_factor == 1 else f', learning rate times {phase.lr_factor:g}'
        runner.logger.info(
            f'Progressive tokenization: {how}{rate} from {self._unit} {step + 1} to {phase.end}.'
        )

    def _draw(self, runner: Runner) -> float:
        """A uniform random number from 0 to below 1 that depends on the run's seed and iteration alone."""
        # MMEngine may have added the rank to the seed.
        rank = get_rank() if runner._randomness_cfg.get('diff_rank_seed') else 0
        return float(np.random.default_rng([runner.seed - rank, runner.iter]).random())

    def _set(self, stride: int | None, dilation: int | None = None) -> None:
        """Switch to the token grid of a stride; None: to the full one."""
        for backbone, full in self._full.items():
            backbone.set_token_stride(full if stride is None else stride, dilation)


def _param_groups(runner: Runner) -> Iterator[dict[str, Any]]:
    """The groups of parameters of all optimizers of a run."""
    wrapper = runner.optim_wrapper
    wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    return (group for one in wrappers for group in one.param_groups)
