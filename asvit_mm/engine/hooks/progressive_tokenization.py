"""Progressive tokenization: training starts with few, coarse tokens and ends with all of them.

Paper: Auto-scaling Vision Transformers without Training, ICLR 2022 (arXiv 2202.11921), section 3.5.
Only the stride and dilation of the first projection change, not its weights, so the optimizer, the state dict
and every checkpoint are those of an ordinary run. Similar to mmpretrain's ``SwitchRecipeHook``, except that
nothing is replayed on resume: the phase and all logged values follow from the epoch (or iteration) alone.
"""

import math
from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from ...errors import InputError
from ...registry import HOOKS
from ...token_schedule import (
    Phase,
    Schedule,
    TokenizedBackbone,
    mean_cost,
    phase_at,
    phases_of_run,
    read_schedule,
)

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
    """Trains on a coarser token grid in early phases.

    Logs, next to the loss: ``tokens``, those of the first stage per image; ``step_gmacs``, multiply-adds of
    the backbone per training step and process, in G, with the backward pass counted as two forward passes;
    ``saved_percent``, the share of the multiply-adds of training that was saved so far; and
    ``saved_percent_of_run``, its value at the end of the run.

    Args:
        phases: the name of a published schedule, '40-70', '80-140' or '120-210', scaled to the run's length;
            or dicts with ``end`` (increasing; integers: the epoch or iteration at which the phase ends,
            the last one the run's length; floats: fractions of the run, the last one 1.0), ``stride``
            (pixels between two tokens, a multiple of the backbone's) and optionally ``dilation`` (default:
            the rule of the paper); or these as a string, '16@0.25,8@0.5,4@1.0'. See
            :func:`~asvit_mm.token_schedule.read_schedule`.
        by_epoch: whether ``end`` counts epochs or iterations.
        val_grid: the token grid of validation, 'full' or 'current' (that of the phase).

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
        # With ends as given; when the run starts, phases_of_run replaces them by counts.
        self.phases = read_schedule(phases)
        self.by_epoch = by_epoch
        self.val_grid = val_grid
        self._unit = 'epoch' if by_epoch else 'iteration'
        self._current: Phase | None = None
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
        self._full = {m: m.token_stride for m in modules if isinstance(m, TokenizedBackbone)}
        if not self._full:
            raise InputError(
                'progressive tokenization: the model has no AsViT backbone, nor another with a variable '
                'token stride; remove the hook'
            )
        backbone = next(iter(self._full))
        # mmdet's heads place priors and crop regions by fixed strides, wrongly on maps of other sizes.
        fixed = any(hasattr(m, 'prior_generator') or hasattr(m, 'featmap_strides') for m in modules)
        if fixed and not getattr(backbone, 'keep_map_sizes', False):
            raise InputError(
                'progressive tokenization: the heads of a detector need feature maps of the full grid: '
                'set model.backbone.keep_map_sizes=True, or remove the hook if the backbone has no such '
                'setting'
            )
        length = runner.max_epochs if self.by_epoch else runner.max_iters
        self.phases = phases_of_run(
            read_schedule(self.schedule, backbone.base_token_stride), length, self._unit
        )
        for number, phase in enumerate(self.phases, start=1):
            try:
                backbone.check_token_stride(phase.stride, phase.dilation)
            except InputError as error:
                raise InputError(f'progressive tokenization: phase {number}: {error}') from None
        strides = {self._full[backbone], *(phase.stride for phase in self.phases)}
        self._tokens = {stride: math.prod(backbone.token_grids(stride)[0]) for stride in strides}
        self._macs = {stride: float(backbone.count_macs(stride)) for stride in strides}
        self._current = None

    def before_train_epoch(self, runner: Runner) -> None:
        """Enter the epoch's phase."""
        if self.by_epoch:
            self._enter(runner, runner.epoch)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Enter the iteration's phase."""
        if not self.by_epoch:
            self._enter(runner, runner.iter)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Log through MMEngine's message hub."""
        assert self._current is not None
        stride, full = self._current.stride, self._macs[next(iter(self._full.values()))]

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
        for name, value in values.items():
            runner.message_hub.update_scalar(f'train/{name}', value)

    def before_val(self, runner: Runner) -> None:
        """Switch to the full grid if ``val_grid`` is 'full'."""
        if self.val_grid == 'full':
            self._set(None)

    def after_val(self, runner: Runner) -> None:
        """Switch back to the grid of the current phase, if validation was part of training."""
        if self._current is not None:
            self._set(self._current)

    def before_test(self, runner: Runner) -> None:
        """Test on the full grid."""
        self._set(None)

    def after_train(self, runner: Runner) -> None:
        """Leave the model on the full grid."""
        self._set(None)
        self._current = None

    def _enter(self, runner: Runner, step: int) -> None:
        phase = phase_at(self.phases, step)
        if phase == self._current:
            return
        self._current = phase
        self._set(phase)
        dilation = next(iter(self._full)).token_dilation
        runner.logger.info(
            f'Progressive tokenization: token stride {phase.stride}, dilation {dilation} '
            f'from {self._unit} {step + 1} to {phase.end}.'
        )

    def _set(self, phase: Phase | None) -> None:
        """Switch to the token grid of a phase; None: to the full one."""
        for backbone, full in self._full.items():
            if phase is None:
                backbone.set_token_stride(full)
            else:
                backbone.set_token_stride(phase.stride, phase.dilation)
