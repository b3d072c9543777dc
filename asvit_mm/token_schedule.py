"""Schedules of progressive tokenization.

Training starts with few, coarse tokens and ends with the full token grid. Paper: Auto-scaling Vision
Transformers without Training, ICLR 2022 (arXiv 2202.11921), section 3.5.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from .arch import BASE_STRIDE
from .errors import InputError
from .tokens import check_token_stride

STRIDES = (16, 8, 4)
# Published schedules: the ends of the first two of three phases, in epochs of 300; strides as above.
PUBLISHED = {'40-70': (40, 70), '80-140': (80, 140), '120-210': (120, 210)}
PUBLISHED_LENGTH = 300
# Published percentages: multiply-adds of training that a schedule saves, and multiply-adds of a step at each
# stride relative to a step at the full grid.
PUBLISHED_SAVINGS = {'40-70': 18.7, '80-140': 37.4, '120-210': 56.2}
PUBLISHED_STEPS = {16: 13.2, 8: 28.5, 4: 100.0}
DEFAULT = '80-140'

Schedule = str | Sequence[Mapping[str, Any]]
_WHAT = 'progressive tokenization'


@runtime_checkable
class TokenizedBackbone(Protocol):
    """A backbone whose token grid can change during training.

    Attributes:
        base_token_stride: pixels between two tokens of the full grid.
    """

    base_token_stride: int

    @property
    def token_stride(self) -> int:
        """Current number of pixels between two tokens."""

    @property
    def token_dilation(self) -> int:
        """Current dilation of the patch embedding."""

    def set_token_stride(self, stride: int, dilation: int | None = None) -> None:
        """Change the token grid, not the parameters; dilation None: ``asvit_mm.tokens.default_dilation``."""

    def check_token_stride(self, stride: int, dilation: int | None = None) -> None:
        """Raise an InputError if the backbone cannot be trained like this on images of its size."""

    def token_grids(self, stride: int) -> tuple[tuple[int, int], ...]:
        """(height, width) of the token grid per stage for images of the training size."""

    def count_macs(self, stride: int) -> int:
        """Multiply-adds of the backbone for one image of the training size."""


@dataclass(frozen=True)
class Phase:
    """Training at one token stride until ``end``.

    Attributes:
        end: number of epochs or iterations since the start of training (int), or share of the run (float).
        stride: pixels between two tokens.
        dilation: of the patch embedding; None: :func:`~asvit_mm.tokens.default_dilation`.
    """

    end: int | float
    stride: int
    dilation: int | None = None


def read_schedule(schedule: Schedule, base_stride: int = BASE_STRIDE) -> tuple[Phase, ...]:
    """The phases of a schedule, with ends as they are written: counts, or shares of the run.

    Args:
        schedule: one of three forms. The name of a published schedule ('40-70', '80-140', '120-210' of 300
            epochs), scaled to the length of the run, with 4, 2 and 1 times the base stride. A list of dicts
            with the fields of :class:`Phase`, ``dilation`` being optional; the last share is 1.0. A
            string 'stride@end,...' or 'stride/dilation@end,...': '16@0.25,8@0.5,4@1.0', '16/1@8,8@14,4@30'.
        base_stride: pixels between two tokens of the full grid.

    Raises:
        InputError: the schedule is malformed.
    """
    if isinstance(schedule, str):
        if '@' not in schedule:
            return _published(schedule, base_stride)
        schedule = _parse_phases(schedule)
    if isinstance(schedule, Mapping) or not isinstance(schedule, Sequence) or not schedule:
        raise InputError(
            f'{_WHAT}: the phases {schedule!r} are neither a list of dict(end=..., stride=...) nor one of '
            f'{", ".join(PUBLISHED)}'
        )
    phases = tuple(_read_phase(fields, i + 1) for i, fields in enumerate(schedule))
    _check_ends(phases)
    return phases


def phases_of_run(phases: Sequence[Phase], length: int, unit: str = 'epoch') -> tuple[Phase, ...]:
    """The phases of a run of ``length`` epochs or iterations (``unit``), with ends as counts of these.

    Raises:
        InputError: the last phase does not end with the run, or a phase is shorter than one unit.
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
                f'{_WHAT}: phase {number} lasts less than one {unit} in a run of {length}: make it longer, '
                'or count iterations (by_epoch=False)'
            )
    return tuple(replace(phase, end=end) for end, phase in zip(ends, phases, strict=True))


def phase_at(phases: Sequence[Phase], step: int) -> Phase:
    """The phase of epoch or iteration ``step``, counted from 0; after the end, the last one."""
    return next((phase for phase in phases if step < phase.end), phases[-1])


def mean_cost(phases: Sequence[Phase], costs: Mapping[int, float], until: float) -> float:
    """Mean cost of the steps before ``until`` (> 0) in a run of :func:`phases_of_run`.

    Args:
        costs: cost of a step by token stride.
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
            f'{_WHAT}: no schedule is called {name!r}: choose from {", ".join(PUBLISHED)}, or write '
            'stride@end,...'
        )
    ends = (*PUBLISHED[name], PUBLISHED_LENGTH)
    return tuple(
        Phase(end / PUBLISHED_LENGTH, stride * base_stride // BASE_STRIDE)
        for end, stride in zip(ends, STRIDES, strict=True)
    )


def _parse_phases(text: str) -> list[dict[str, int | float]]:
    schedule = []
    for part in text.split(','):
        tokens, _, end = part.partition('@')
        stride, given, dilation = tokens.partition('/')
        try:
            fields = {'end': _number(end), 'stride': int(stride)}
            schedule.append({**fields, 'dilation': int(dilation)} if given else fields)
        except ValueError:
            raise InputError(
                f'{_WHAT}: {part!r} in {text!r} is neither stride@end nor stride/dilation@end: write '
                '16@0.25 (a share of the run) or 16@75 (epochs or iterations)'
            ) from None
    return schedule


def _number(text: str) -> int | float:
    return int(text) if text.strip().isdecimal() else float(text)


def _read_phase(fields: Any, number: int) -> Phase:
    if not isinstance(fields, Mapping) or not (
        {'end', 'stride'} <= set(fields) <= {'end', 'stride', 'dilation'}
    ):
        raise InputError(
            f'{_WHAT}: phase {number} = {fields!r} is not dict(end=..., stride=...), optionally with '
            'dilation=...'
        )
    phase = Phase(**fields)
    try:
        check_token_stride(phase.stride, phase.dilation)
    except InputError as error:
        raise InputError(f'{_WHAT}: phase {number}: {error}') from None
    return phase


def _check_ends(phases: Sequence[Phase]) -> None:
    start: float = 0
    for number, end in enumerate((phase.end for phase in phases), start=1):
        where = f'{_WHAT}: phase {number} ends at {end!r}'
        if type(end) not in (int, float) or type(end) is not type(phases[0].end):
            raise InputError(
                f'{where}: give integers (epochs or iterations) or shares of the run (1.0 is all of it), not '
                'both'
            )
        if not end > start:
            raise InputError(f'{where}: ends must increase, here from {start}')
        if isinstance(end, float) and end > 1:
            raise InputError(f'{where} of the run, past its end: give at most 1.0')
        start = end
    if isinstance(end, float) and end != 1:
        raise InputError(f'{_WHAT}: the last phase ends at {end!r} of the run: give 1.0')
