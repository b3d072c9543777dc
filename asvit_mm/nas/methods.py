"""What a search method is, and the loop that runs one."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..arch import Architecture
from .baselines import RandomSearch, RegularizedEvolution
from .evaluator import Measurement, Memo
from .latency import Latency
from .reinforce import Reinforce


class SearchMethod(Protocol):
    """Proposes seeds to measure and learns from the measurements.

    Everything that it does follows from its seed and from what it was told, so that a run is resumed exactly
    by telling a new object the same.
    """

    def ask(self) -> Sequence[Architecture]:
        """The next seeds to measure, at least one; none depends on the measurement of another."""

    def tell(self, arch: Architecture, measurement: Measurement) -> dict[str, float]:
        """Take in the measurement of a seed that was asked for, in the order of asking.

        Returns:
            figures of this method for the trace.
        """

    @property
    def best(self) -> Architecture:
        """The result of the search, if it ended now, whatever its latency."""

    def best_of(self, archs: Collection[Architecture]) -> Architecture:
        """The one that the method prefers of some (at least one) that it was told of."""


METHODS = {
    'reinforce': Reinforce,
    'evolution': RegularizedEvolution,
    'random': RandomSearch,
}


@dataclass(frozen=True)
class Step:
    """A step of a search.

    Attributes:
        number: from 0.
        recalled: whether ``arch`` was measured in an earlier step.
        figures: what the method adds to the trace.
        best: the result, if the search ended here.
    """

    number: int
    arch: Architecture
    measurement: Measurement
    recalled: bool
    figures: dict[str, float]
    best: Architecture

    def to_record(self) -> dict[str, Any]:
        """Plain data for the trace."""
        return {
            'step': self.number,
            'arch': str(self.arch),
            **self.measurement.to_record(),
            'recalled': self.recalled,
            **self.figures,
            'best': str(self.best),
        }


def iterate_search(method: SearchMethod, measure: Memo, steps: int) -> Iterator[Step]:
    """Measure ``steps`` architectures that the method asks for, and yield each step."""
    number = 0
    while number < steps:
        archs = list(method.ask())[: steps - number]
        for arch, (measurement, recalled) in zip(archs, measure(archs), strict=True):
            figures = method.tell(arch, measurement)
            yield Step(number, arch, measurement, recalled, figures, method.best)
            number += 1


def result_of(
    method: SearchMethod, measured: Collection[Architecture], latency: Latency | None = None
) -> Architecture:
    """The result of a search: the method's best, which may be one that was never measured.

    Args:
        measured: what the method was told of, each once, in the order of telling.
        latency: the limit. If the method's best is too slow, the result is the one that the method prefers
            of those measured that are not.

    Raises:
        InputError: all are too slow; names the fastest.
    """
    best = method.best
    if latency is None:
        return best
    kept = latency.within_limit(measured, f'all {len(measured)} networks of this search')
    return best if latency(best) <= latency.limit else method.best_of(kept)
