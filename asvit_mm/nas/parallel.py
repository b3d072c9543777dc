"""Measurements shared out among the processes of a launcher (torch.distributed through MMEngine).

The first process runs the search; the others measure what it hands them: first the measure, then requests
with the number of threads, at last None, or the error that the first process ends with. An error in
measuring is gathered like a value, and raised by all. A unit of work is one measure of one network, and every
unit's value is what one process alone would get, so the result is too.
"""

import heapq
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmengine import dist

from ..errors import InputError
from ..measures import SEARCH_MEASURES, Score
from .evaluator import ComplexityMeasure, Measurement, Request, combine


class _SharedError(InputError):
    """One that all processes have raised already."""


# Which request, which measure, which network.
Unit = tuple[int, str, int]

# Forward passes of an image that a measure costs, as docs/complexity.md has it; shares the work out.
COSTS = {'length_distortion': 10 * 2.5, 'ntk_condition_number': 16 * 4.7}


class SharedMeasure:
    """A measure whose work all processes of the launcher share, in the first one.

    The others call :func:`help_measuring` meanwhile. Where there is one process, it does all.

    Args:
        measure: what is measured, and how.
    """

    def __init__(self, measure: ComplexityMeasure) -> None:
        self.measure = measure
        self._sent = False

    def __call__(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        """Measure the requests, in their order; a few at a time where one is too little work for all."""
        if not self._sent:
            _send(self.measure)
            self._sent = True
        repeat = self.measure.repeat
        at_a_time = -(-dist.get_world_size() // repeat)
        for start in range(0, len(requests), at_a_time):
            some = list(requests[start : start + at_a_time])
            _send((some, torch.get_num_threads()))
            scores = _measure_together(self.measure, some)
            for i in range(len(some)):
                yield combine(
                    [{n: scores[i, n, r] for n in SEARCH_MEASURES} for r in range(repeat)]
                )


@contextmanager
def with_helpers() -> Iterator[None]:
    """What the first process does while the others are in :func:`help_measuring`; lets them go at the end.

    An :class:`~asvit_mm.errors.InputError` is theirs too. After any other error nobody may be listening;
    the launcher then ends them.
    """
    try:
        yield
    except _SharedError:
        raise
    except InputError as error:
        _send(error)
        raise
    _send(None)


def help_measuring() -> None:
    """Measure what the first process hands out, until it needs no more help.

    Raises:
        InputError: the one that the first process ends with, or that any has met in measuring.
    """
    measure = None
    while (work := _receive()) is not None:
        if isinstance(work, InputError):
            raise work
        if isinstance(work, ComplexityMeasure):
            measure = work
            continue
        assert measure is not None
        requests, threads = work
        torch.set_num_threads(threads)
        _measure_together(measure, requests)


def share_out(units: Sequence[Unit], num: int) -> list[list[Unit]]:
    """Units of each of ``num`` processes: the dearest unit first, always to who has least to do."""
    load = [(0.0, process) for process in range(num)]
    shares: list[list[Unit]] = [[] for _ in range(num)]
    for unit in sorted(units, key=lambda unit: -COSTS[unit[1]]):
        cost, process = heapq.heappop(load)
        shares[process].append(unit)
        heapq.heappush(load, (cost + COSTS[unit[1]], process))
    return shares


def _measure_together(measure: ComplexityMeasure, requests: Sequence[Request]) -> dict[Unit, Score]:
    units = [
        (i, name, r)
        for i in range(len(requests))
        for r in range(measure.repeat)
        for name in SEARCH_MEASURES
    ]
    mine = share_out(units, dist.get_world_size())[dist.get_rank()]
    networks: dict[tuple[int, int], list[str]] = {}
    for i, name, r in mine:
        networks.setdefault((i, r), []).append(name)
    scores, error = {}, None
    try:
        for (i, r), names in networks.items():
            for name, score in measure.network(requests[i], r, names).items():
                scores[i, name, r] = score
    except InputError as caught:
        error = str(caught)
    parts = dist.all_gather_object((scores, error))
    for _, error in parts:
        if error is not None:
            raise _SharedError(error)
    return {unit: score for part, _ in parts for unit, score in part.items()}


def _send(value: Any) -> None:
    dist.broadcast_object_list([value])


def _receive() -> Any:
    received = [None]
    dist.broadcast_object_list(received)
    return received[0]
