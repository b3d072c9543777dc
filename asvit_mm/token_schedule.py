"""Schedules of progressive tokenization and of elastic tokens.

Training starts with few, coarse tokens and ends with the full token grid. Paper: Auto-scaling Vision
Transformers without Training, ICLR 2022 (arXiv 2202.11921), section 3.5. A phase with several strides draws
one for each iteration, so that the network learns to work at all of them.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    def token_dilation(self) -> int | None:
        """Current dilation of the patch embedding; None: its kernel is resized instead."""

    def set_token_stride(self, stride: int, dilation: int | None = None) -> None:
        """Change the token grid, not the parameters; dilation None: what the backbone is set to."""

    def check_token_stride(self, stride: int, dilation: int | None = None) -> None:
        """Raise an InputError if the backbone cannot be trained like this on images of its size."""

    def token_grids(self, stride: int) -> tuple[tuple[int, int], ...]:
        """(height, width) of the token grid per stage for images of the training size."""

    def count_macs(self, stride: int) -> int:
        """Multiply-adds of the backbone for one image of the training size."""


@dataclass(frozen=True)
class Phase:
    """Training at one token stride, or at several in turn, until ``end``.

    Attributes:
        end: number of epochs or iterations since the start of training (int), or share of the run (float).
        stride: pixels between two tokens; several: one of them is drawn for every iteration.
        dilation: of the patch embedding, with one stride; None: what the backbone is set to.
        weights: relative frequencies of several strides; None: all are equally frequent.
        lr_factor: what the learning rate of the run is multiplied by.
    """

    end: int | float
    stride: int | tuple[int, ...]
    dilation: int | None = None
    weights: tuple[float, ...] | None = None
    lr_factor: float = 1.0

    @property
    def strides(self) -> tuple[int, ...]:
        """The strides of the phase, one or several."""
        return self.stride if isinstance(self.stride, tuple) else (self.stride,)

    @property
    def shares(self) -> dict[int, float]:
        """The share of the phase's iterations that has each stride, as expected."""
        weights = self.weights or (1.0,) * len(self.strides)
        total = sum(weights)
        return {s: weight / total for s, weight in zip(self.strides, weights, strict=True)}

    def pick(self, number: float) -> int:
        """The stride that a uniform random ``number`` from 0 to below 1 stands for."""
        for stride, share in self.shares.items():
            if number < share:
                return stride
            number -= share
        return self.strides[-1]


@contextmanager
def at_full_grid(backbones: Sequence[TokenizedBackbone]) -> Iterator[None]:
    """Within it the backbones are at their full token grids; then at those that they had."""
    grids = [(one.token_stride, one.token_dilation) for one in backbones]
    for one in backbones:
        one.set_token_stride(one.base_token_stride)
    try:
        yield
    finally:
        for one, grid in zip(backbones, grids, strict=True):
            one.set_token_stride(*grid)


def read_schedule(schedule: Schedule, base_stride: int = BASE_STRIDE) -> tuple[Phase, ...]:
    """The phases of a schedule, with ends as they are written: counts, or shares of the run.

    Args:
        schedule: one of three forms. The name of a published schedule ('40-70', '80-140', '120-210' of 300
            epochs), scaled to the length of the run, with 4, 2 and 1 times the base stride. A list of dicts
            with the fields of :class:`Phase`, of which ``end`` and ``stride`` are required; the last share is
            1.0. A string of 'stride@end' separated by commas, '16@0.25,8@0.5,4@1.0'. Before the '@' there
            may be several strides, '16|8|4@1.0', or a dilation, '16/1@8,8@14,4@30', and a factor of the
            learning rate, '16*0.5@8'.
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

    Phases whose shares of the run round to nothing are left out.

    Raises:
        InputError: the last phase does not end with the run.
    """
    if isinstance(phases[-1].end, int):
        if phases[-1].end != length:
            raise InputError(
                f'{_WHAT}: the last phase ends at {unit} {phases[-1].end} and the run has '
                f'{length}; make the two agree'
            )
        return tuple(phases)
    by_end: dict[int, Phase] = {}
    for phase in phases:
        by_end[round(phase.end * length)] = phase  # of two that end together the later one is left
    return tuple(replace(phase, end=end) for end, phase in by_end.items() if end > 0)


def phases_for(
    backbone: TokenizedBackbone, schedule: Schedule, length: int, unit: str = 'epoch'
) -> tuple[Phase, ...]:
    """The phases of a run of ``length`` epochs or iterations (``unit``) that trains a backbone.

    Raises:
        InputError: the schedule is malformed, or does not fit the run or the backbone.
    """
    phases = phases_of_run(read_schedule(schedule, backbone.base_token_stride), length, unit)
    for number, phase in enumerate(phases, start=1):
        try:
            for stride in phase.strides:
                backbone.check_token_stride(stride, phase.dilation)
        except InputError as error:
            raise InputError(f'{_WHAT}: phase {number}: {error}') from None
    return phases


def all_strides(phases: Sequence[Phase]) -> list[int]:
    """Every stride of the phases once, in their order."""
    return list(dict.fromkeys(stride for phase in phases for stride in phase.strides))


def phase_at(phases: Sequence[Phase], step: int) -> Phase:
    """The phase of epoch or iteration ``step``, counted from 0; after the end, the last one."""
    return next((phase for phase in phases if step < phase.end), phases[-1])


def mean_cost(phases: Sequence[Phase], costs: Mapping[int, float], until: float) -> float:
    """Mean cost of the steps before ``until`` (> 0) in a run of :func:`phases_of_run`.

    Args:
        costs: cost of a step by token stride; of a phase with several strides, the expected cost counts.
    """
    spent, start = 0.0, 0.0
    for phase in phases:
        end = min(float(phase.end), until)
        step = sum(share * costs[stride] for stride, share in phase.shares.items())
        spent += max(0.0, end - start) * step
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


def _parse_phases(text: str) -> list[dict[str, Any]]:
    schedule = []
    for part in text.split(','):
        match = _PHASE.fullmatch(part.strip())
        if match is None:
            raise InputError(
                f'{_WHAT}: {part!r} in {text!r} is neither stride@end nor stride/dilation@end: write '
                '16@0.25 (a share of the run) or 16@75 (epochs or iterations), or several strides, 16|8|4@1.0'
            )
        strides = [int(stride) for stride in match['strides'].split('|')]
        end = match['end']
        fields: dict[str, Any] = {
            'end': int(end) if end.isdecimal() else float(end),
            'stride': strides if len(strides) > 1 else strides[0],
        }
        if match['dilation']:
            fields['dilation'] = int(match['dilation'])
        if match['factor']:
            fields['lr_factor'] = float(match['factor'])
        schedule.append(fields)
    return schedule


_NUMBER = r'\d+\.?\d*|\.\d+'
_PHASE = re.compile(
    r'(?P<strides>\d+(?:\|\d+)*)(?:/(?P<dilation>\d+))?'
    rf'(?:\*(?P<factor>{_NUMBER}))?@\s*(?P<end>{_NUMBER})'
)


def _read_phase(fields: Any, number: int) -> Phase:
    if not isinstance(fields, Mapping) or not (
        {'end', 'stride'} <= set(fields) <= set(Phase.__dataclass_fields__)
    ):
        raise InputError(
            f'{_WHAT}: phase {number} = {fields!r} is not dict(end=..., stride=...), optionally with '
            'dilation, weights or lr_factor'
        )
    fields = dict(fields)
    for name in ('stride', 'weights'):
        if isinstance(fields.get(name), list | tuple):
            fields[name] = tuple(fields[name])
    phase = Phase(**fields)
    try:
        _check_phase(phase)
    except InputError as error:
        raise InputError(f'{_WHAT}: phase {number}: {error}') from None
    return phase


def _check_phase(phase: Phase) -> None:
    strides, weights, factor = phase.strides, phase.weights, phase.lr_factor
    if not strides:
        raise InputError('no token stride is given')
    for stride in strides:
        check_token_stride(stride, phase.dilation)
    if len(set(strides)) < len(strides):
        raise InputError(f'a token stride is given twice: {strides}')
    if phase.dilation is not None and len(strides) > 1:
        raise InputError('a dilation goes with one token stride, not with several')
    if weights is not None and not (
        isinstance(weights, tuple)
        and len(weights) == len(strides)
        and all(map(_is_positive, weights))
    ):
        raise InputError(f'weights {weights!r}: give a positive number for each of {strides}')
    if not _is_positive(factor):
        raise InputError(f'lr_factor {factor!r} is not a positive number')


def _is_positive(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < math.inf


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
