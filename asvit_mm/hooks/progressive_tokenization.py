"""Progressive tokenization: early epochs see few, coarse tokens, late epochs all of them.

Paper: Auto-scaling Vision Transformers without Training, ICLR 2022 (arXiv 2202.11921), section 3.5.
The first projection keeps its weights; only its stride and dilation change, so the optimizer, the
state dict and every checkpoint are those of an ordinary run. In the manner of mmpretrain's
``SwitchRecipeHook``, except that nothing is replayed on resume: the phase follows from the epoch
(or iteration) alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from ..errors import InputError
from ..models import AsViT
from ..registry import HOOKS
from ..tokens import BASE_STRIDE, check_token_stride


@dataclass(frozen=True)
class Phase:
    """Train at ``stride`` (and ``dilation``; None: by the rule) until ``end``, exclusive."""

    end: int
    stride: int
    dilation: int | None = None


@HOOKS.register_module()
class ProgressiveTokenizationHook(Hook):
    """Trains at a coarser token grid in early phases; always evaluates at the full grid.

    Args:
        phases: dicts with ``end`` (the epoch or iteration at which the phase is over, counted from
            the start of training; increasing, the last one is the run's length), ``stride`` (pixels
            between two tokens, a multiple of 4) and, if not by the rule of the paper, ``dilation``.
        by_epoch: whether ``end`` counts epochs or iterations.

    Raises:
        InputError: a malformed schedule, when built; one that does not fit the run's length, or a
            model without an AsViT backbone, before the first iteration.

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

    def __init__(self, phases: Sequence[Mapping[str, Any]], by_epoch: bool = True) -> None:
        self.phases = _check_phases(phases)
        self.by_epoch = by_epoch
        self._unit = 'epoch' if by_epoch else 'iteration'
        self._current: Phase | None = None
        self._full: dict[AsViT, int] = {}

    def phase_at(self, step: int) -> Phase:
        """The phase of epoch or iteration ``step``, from 0; beyond the end, the last one."""
        return next((phase for phase in self.phases if step < phase.end), self.phases[-1])

    def before_train(self, runner: Runner) -> None:
        """Check the schedule against the run and find the backbones."""
        iteration_based = isinstance(runner.train_loop, IterBasedTrainLoop)
        if self.by_epoch and iteration_based:
            raise InputError(
                'progressive tokenization: phases in epochs in a run of iterations; '
                'give their ends in iterations and set by_epoch=False'
            )
        length = runner.max_epochs if self.by_epoch else runner.max_iters
        if self.phases[-1].end != length:
            raise InputError(
                f'progressive tokenization: the last phase ends at {self._unit} '
                f'{self.phases[-1].end} and the run has {length}; make the two agree'
            )
        # Wrappers such as DistributedDataParallel are modules too: this looks through them.
        modules = list(runner.model.modules())
        for hook in runner.hooks:
            if hasattr(hook, 'ema_model'):
                modules += hook.ema_model.modules()
        self._full = {m: m.token_stride for m in modules if isinstance(m, AsViT)}
        if not self._full:
            raise InputError(
                'progressive tokenization: the model has no AsViT backbone; remove the hook'
            )
        self._current = None

    def before_train_epoch(self, runner: Runner) -> None:
        """Enter the epoch's phase."""
        if self.by_epoch:
            self._enter(runner, runner.epoch)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Enter the iteration's phase."""
        if not self.by_epoch:
            self._enter(runner, runner.iter)

    def before_val(self, runner: Runner) -> None:
        """Evaluate at the full grid."""
        self._restore_full_grid()

    def after_val(self, runner: Runner) -> None:
        """Go back to the phase, if validation came in the middle of it."""
        if self._current is not None:
            self._set(self._current)

    def before_test(self, runner: Runner) -> None:
        """Evaluate at the full grid."""
        self._restore_full_grid()

    def after_train(self, runner: Runner) -> None:
        """Leave the model at the full grid."""
        self._restore_full_grid()
        self._current = None

    def _enter(self, runner: Runner, step: int) -> None:
        phase = self.phase_at(step)
        if phase == self._current:
            return
        self._current = phase
        self._set(phase)
        dilation = next(iter(self._full)).patch_embed.dilation
        runner.logger.info(
            f'Progressive tokenization: token stride {phase.stride}, dilation {dilation} '
            f'from {self._unit} {step + 1} to {phase.end}.'
        )

    def _set(self, phase: Phase) -> None:
        for backbone in self._full:
            backbone.set_token_stride(phase.stride, phase.dilation)

    def _restore_full_grid(self) -> None:
        for backbone, stride in self._full.items():
            backbone.set_token_stride(stride)


def _check_phases(phases: Sequence[Mapping[str, Any]]) -> tuple[Phase, ...]:
    if isinstance(phases, (str, Mapping)) or not isinstance(phases, Sequence) or not phases:
        raise InputError(
            'progressive tokenization: the phases are not a list of dict(end=..., stride=...): '
            f'{phases!r}'
        )
    checked: list[Phase] = []
    for number, fields in enumerate(phases, start=1):
        where = f'progressive tokenization: phase {number}'
        allowed = {'end', 'stride', 'dilation'}
        if not isinstance(fields, Mapping) or not {'end', 'stride'} <= set(fields) <= allowed:
            raise InputError(
                f'{where} = {fields!r} is not dict(end=..., stride=...), with dilation=... at will'
            )
        phase = Phase(**fields)
        start = checked[-1].end if checked else 0
        if type(phase.end) is not int or phase.end <= start:
            raise InputError(
                f'{where} ends at {phase.end!r}: ends are increasing integers, here above {start}'
            )
        try:
            check_token_stride(phase.stride, phase.dilation)
        except InputError as error:
            raise InputError(f'{where}: {error}') from None
        if phase.stride % BASE_STRIDE:
            raise InputError(f'{where}: stride {phase.stride} is not a multiple of {BASE_STRIDE}')
        checked.append(phase)
    return tuple(checked)
