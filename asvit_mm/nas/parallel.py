"""Work distributed over the processes of a launcher (torch.distributed through MMEngine).

The main rank runs the search. The other ranks receive, in this order, the measure, any number of requests
(with the number of threads) and of calls, and finally None, or the error that the main rank ends with. The
unit of work is one measure of one network, or one call; its value does not depend on the rank, so the
result is that of one process.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

import torch
from mmengine import dist

from ..errors import InputError
from ..measures import SEARCH_MEASURES, Score
from .evaluator import ComplexityMeasure, Measurement, Request, combine

T = TypeVar('T')
R = TypeVar('R')

# Index of the request, number of the network, name of the measure.
Unit = tuple[int, int, str]

# Forward passes per image that a measure costs, as docs/complexity.md has it; balances the work.
COSTS = {'length_distortion': 10 * 2.5, 'ntk_condition_number': 16 * 4.7}


class _SharedError(InputError):
    """An error that every rank already raises, so it need not be broadcast."""


class SharedMeasure:
    """A measure whose work the main rank distributes over all ranks of the launcher.

    The others call :func:`help_main_rank` meanwhile. A process without a launcher does all work itself.

    Args:
        measure: what is measured, and how.
    """

    def __init__(self, measure: ComplexityMeasure) -> None:
        self.measure = measure
        _broadcast(measure)

    def __call__(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        """Measure the requests, in their order; several at once if one does not occupy all ranks."""
        repeat = len(self.measure.images)
        at_once = -(-dist.get_world_size() // repeat)
        for start in range(0, len(requests), at_once):
            some = list(requests[start : start + at_once])
            _broadcast((some, torch.get_num_threads()))
            scores = _measure_on_all_ranks(self.measure, some)
            for i in range(len(some)):
                yield combine(
                    [{n: scores[i, r, n] for n in SEARCH_MEASURES} for r in range(repeat)]
                )


@contextmanager
def with_helpers() -> Iterator[None]:
    """The block that the main rank runs while the others are in :func:`help_main_rank`; it ends that too.

    An :class:`~asvit_mm.errors.InputError` of the block is raised on the other ranks, too. After any other
    error they may not be waiting for a message; the launcher then stops them.
    """
    try:
        yield
    except _SharedError:
        raise
    except InputError as error:
        _broadcast(error)
        raise
    _broadcast(None)


@dataclass(frozen=True)
class _Calls:
    """Calls that the ranks share."""

    function: Callable[[Any], Any]
    arguments: Sequence[Any]


def call_on_all_ranks(function: Callable[[T], R], arguments: Sequence[T]) -> list[R]:
    """Call ``function`` with each of the arguments, every rank its share of them, and wait for all.

    The others call :func:`help_main_rank` meanwhile. A process without a launcher makes all calls itself.

    Args:
        function: and ``arguments``: what pickle takes.

    Returns:
        the values in the order of the arguments, on every rank.

    Raises:
        InputError: the one that a call raised on any rank, on all of them.
    """
    calls = _Calls(function, list(arguments))
    _broadcast(calls)
    return _call_on_all_ranks(calls)


def help_main_rank() -> None:
    """Measure and call what the main rank requests, until it is done.

    Raises:
        InputError: the one that the main rank ends with, or that any rank has met in its share.
    """
    measure = None
    while (work := _broadcast(None)) is not None:
        if isinstance(work, InputError):
            raise work
        if isinstance(work, ComplexityMeasure):
            measure = work
            continue
        if isinstance(work, _Calls):
            _call_on_all_ranks(work)
            continue
        assert measure is not None
        requests, threads = work
        torch.set_num_threads(threads)
        _measure_on_all_ranks(measure, requests)


def share_out(units: Sequence[Unit], num: int) -> list[list[Unit]]:
    """Units of each of ``num`` ranks: the most expensive first, each to the rank with the least work."""
    loads = [0.0] * num
    shares: list[list[Unit]] = [[] for _ in range(num)]
    for unit in sorted(units, key=lambda unit: -COSTS[unit[2]]):
        rank = loads.index(min(loads))
        shares[rank].append(unit)
        loads[rank] += COSTS[unit[2]]
    return shares


def _measure_on_all_ranks(
    measure: ComplexityMeasure, requests: Sequence[Request]
) -> dict[Unit, Score]:
    units = [
        (i, r, name)
        for i in range(len(requests))
        for r in range(len(measure.images))
        for name in SEARCH_MEASURES
    ]
    own = sorted(share_out(units, dist.get_world_size())[dist.get_rank()])

    def measure_own() -> dict[Unit, Score]:
        scores = {}
        for (i, r), group in groupby(own, key=lambda unit: unit[:2]):
            names = [name for *_, name in group]
            for name, score in measure.network(requests[i], r, names).items():
                scores[i, r, name] = score
        return scores

    return _gather(measure_own)


def _call_on_all_ranks(calls: _Calls) -> list[Any]:
    numbers = range(dist.get_rank(), len(calls.arguments), dist.get_world_size())
    values = _gather(lambda: {i: calls.function(calls.arguments[i]) for i in numbers})
    return [values[i] for i in range(len(calls.arguments))]


def _gather(make: Callable[[], dict[Any, R]]) -> dict[Any, R]:
    """What ``make`` gives on each rank, all together."""
    values, error = {}, None
    try:
        values = make()
    except InputError as caught:
        error = str(caught)
    # An error is gathered like a value, so that no rank waits for one that has failed.
    parts = dist.all_gather_object((values, error))
    for _, error in parts:
        if error is not None:
            raise _SharedError(error)
    return {key: value for part, _ in parts for key, value in part.items()}


def _broadcast(value: Any) -> Any:
    """The main rank's value, on every rank."""
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]
