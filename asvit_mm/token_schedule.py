"""Schedules of progressive tokenization: the one place that reads them.

Early phases of a training run see few, coarse tokens, late ones all of them. Paper: Auto-scaling Vision
Transformers without Training, ICLR 2022 (arXiv 2202.11921), section 3.5.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from .errors import InputError
from .tokens import BASE_STRIDE, check_token_stride

STRIDES = (16, 8, 4)
# Ends of the published schedules' first two phases, of 300 epochs; strides as above.
PUBLISHED = {'40-70': (40, 70), '80-140': (80, 140), '120-210': (120, 210)}
PUBLISHED_LENGTH = 300
# What the paper reports, in per cent: multiply-adds of training that a schedule saves, and those of a step
# at a stride.
PUBLISHED_SAVINGS = {'40-70': 18.7, '80-140': 37.4, '120-210': 56.2}
PUBLISHED_STEPS = {16: 13.2, 8: 28.5, 4: 100.0}
DEFAULT = '80-140'

Schedule = str | Sequence[Mapping[str, Any]]
_WHAT = 'progressive tokenization'


@runtime_checkable
class TokenizedBackbone(Protocol):
    """A backbone whose tokens can be made coarser and finer while it is trained.

    Attributes:
        base_token_stride: pixels between two tokens of the full grid.
    """

    base_token_stride: int

    @property
    def token_stride(self) -> int:
        """Pixels between two tokens, at present."""

    @property
    def token_dilation(self) -> int:
        """Pixels between two taps of the first projection, at present."""

    def set_token_stride(self, stride: int, dilation: int | None = None) -> None:
        """Change the grid; parameters and state dict stay as they are. None: dilation by the rule."""

    def check_token_stride(self, stride: int, dilation: int | None = None) -> None:
        """Refuse, with an InputError, what images of the training size cannot be trained at."""

    def token_grids(self, stride: int) -> tuple[tuple[int, int], ...]:
        """(height, width) of every stage's grid of tokens for images of the training size."""

    def count_macs(self, stride: int) -> int:
        """Multiply-adds of the backbone for one image of the training size."""


@dataclass(frozen=True)
class Phase:
    """Train at ``stride`` (and ``dilation``; None: by the rule) until ``end``, exclusive.

    ``end`` is the number of epochs or iterations from the start of training, or a share of the run.
    """

    end: int | float
    stride: int
    dilation: int | None = None


def read_schedule(schedule: Schedule, base_stride: int = BASE_STRIDE) -> tuple[Phase, ...]:
    """The phases as they are written, before the run's length is known.

    Args:
        schedule: the name of a published one ('40-70', '80-140', '120-210', of 300 epochs, scaled to the
            run's length, at 4, 2 and 1 times the base stride), or dicts with ``end`` (an integer: epochs or
            iterations from the start; a float: a share of the run, the last one 1.0), ``stride`` (pixels
            between two tokens) and, if not by the rule of the paper, ``dilation``; or the same in one word
            for a command line, 'stride@end,...' or 'stride/dilation@end,...': '16@0.25,8@0.5,4@1.0',
            '16/1@8,8@14,4@30'.
        base_stride: pixels between two tokens of the full grid.

    Raises:
        InputError: a malformed schedule.
    """
    if isinstance(schedule, str):
        if '@' not in schedule:
            return _published(schedule, base_stride)
        schedule = _written_out(schedule)
    if isinstance(schedule, Mapping) or not isinstance(schedule, Sequence) or not schedule:
        raise InputError(
            f'{_WHAT}: the phases are neither a list of dict(end=..., stride=...) nor one of '
            f'{", ".join(PUBLISHED)}: {schedule!r}'
        )
    phases: list[Phase] = []
    for number, fields in enumerate(schedule, start=1):
        phases.append(_read_phase(fields, f'{_WHAT}: phase {number}', phases))
    if isinstance(phases[-1].end, float) and phases[-1].end != 1:
        raise InputError(f'{_WHAT}: the last phase ends at {phases[-1].end!r} of the run: give 1.0')
    return tuple(phases)


def phases_of_run(phases: Sequence[Phase], length: int, unit: str = 'epoch') -> tuple[Phase, ...]:
    """The phases of a run, their ends in its ``unit``.

    Args:
        phases: of :func:`read_schedule`.
        length: of the run, in epochs or iterations.
        unit: what it is counted in, for messages.

    Raises:
        InputError: the last phase does not end with the run, or a share of it comes to nothing.
    """
    if isinstance(phases[-1].end, int):
        if phases[-1].end != length:
            raise InputError(
                f'{_WHAT}: the last phase ends at {unit} {phases[-1].end} and the run has '
                f'{length}; make the two agree'
            )
        return tuple(phases)
    ends = [round(phase.end * length) for phase in phases]
    for number, (end, start) in enumerate(zip(ends, [0, *ends], strict=False), start=1):
        if end == start:
            raise InputError(
                f'{_WHAT}: phase {number} comes to no {unit} of a run of {length}: make it longer, or '
                'count iterations (by_epoch=False)'
            )
    return tuple(
        Phase(end, phase.stride, phase.dilation) for end, phase in zip(ends, phases, strict=True)
    )


def phase_at(phases: Sequence[Phase], step: int) -> Phase:
    """The phase of epoch or iteration ``step``, from 0; beyond the end, the last one."""
    return next((phase for phase in phases if step < phase.end), phases[-1])


def mean_cost(phases: Sequence[Phase], costs: Mapping[int, float], until: float) -> float:
    """Mean over the steps before ``until`` of what a step at each phase's stride costs.

    Args:
        phases: of :func:`phases_of_run`.
        costs: of a step, by stride.
        until: in the phases' unit, above 0; at the last end the mean is that of the whole run.
    """
    spent, start = 0.0, 0.0
    for phase in phases:
        end = min(float(phase.end), until)
        spent += max(0.0, end - start) * costs[phase.stride]
        start = max(start, end)
    return spent / until


def _published(name: str, base_stride: int) -> tuple[Phase, ...]:
    if name not in PUBLISHED:
        raise InputError(
            f'{_WHAT}: no schedule is called {name!r}: choose from {", ".join(PUBLISHED)}, or write it '
            'as stride@end,...'
        )
    ends = (*PUBLISHED[name], PUBLISHED_LENGTH)
    return tuple(
        Phase(end / PUBLISHED_LENGTH, stride * base_stride // BASE_STRIDE)
        for end, stride in zip(ends, STRIDES, strict=True)
    )


def _written_out(word: str) -> list[dict[str, int | float]]:
    schedule = []
    for part in word.split(','):
        tokens, _, end = part.partition('@')
        stride, given, dilation = tokens.partition('/')
        try:
            fields = {'end': _number(end), 'stride': int(stride)}
            schedule.append({**fields, 'dilation': int(dilation)} if given else fields)
        except ValueError:
            raise InputError(
                f'{_WHAT}: {part!r} in {word!r} is neither stride@end nor stride/dilation@end: write '
                '16@0.25 (a share of the run) or 16@75 (epochs or iterations)'
            ) from None
    return schedule


def _number(text: str) -> int | float:
    return int(text) if text.strip().isdecimal() else float(text)


def _read_phase(fields: Any, where: str, before: Sequence[Phase]) -> Phase:
    if not isinstance(fields, Mapping) or not (
        {'end', 'stride'} <= set(fields) <= {'end', 'stride', 'dilation'}
    ):
        raise InputError(
            f'{where} = {fields!r} is not dict(end=..., stride=...), with dilation=... at will'
        )
    phase = Phase(**fields)
    kind = type(before[0].end if before else phase.end)
    start = before[-1].end if before else 0
    if {kind, type(phase.end)} == {int, float}:
        raise InputError(
            f'{where} ends at {phase.end!r}: give integers (epochs or iterations) or shares of the run (1.0 '
            f'is all of it), not both; phase 1 ends at {before[0].end!r}'
        )
    if kind not in (int, float) or type(phase.end) is not kind or not phase.end > start:
        what = 'shares of the run' if kind is float else 'integers'
        raise InputError(
            f'{where} ends at {phase.end!r}: ends are increasing {what}, here above {start}'
        )
    if kind is float and phase.end > 1:
        raise InputError(
            f'{where} ends at {phase.end!r} of the run, past its end: give at most 1.0'
        )
    try:
        check_token_stride(phase.stride, phase.dilation)
    except InputError as error:
        raise InputError(f'{where}: {error}') from None
    return phase
