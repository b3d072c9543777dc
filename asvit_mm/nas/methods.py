"""The search methods, and the loop that runs one.

The paper's is :class:`~asvit_mm.nas.Reinforce`; the two here, which it is compared with, rank networks as
auto-scaling does.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..arch import Architecture
from .evaluator import Measurement, Memo
from .ranking import Value, rank_networks
from .reinforce import Reinforce
from .space import Choices

BATCH = 32
POPULATION = 50
TOURNAMENT = 10

# Architecture, and its L^E and kappa.
Network = tuple[Architecture, tuple[Value, Value]]


class SearchMethod(Protocol):
    """Proposes seeds to measure and learns from the measurements.

    Everything that it does follows from its seed and from what it was told, so a run is resumed exactly by
    telling a new object the same measurements.
    """

    def ask(self) -> Sequence[Architecture]:
        """The next seeds to measure, at least one; none depends on the measurement of another."""

    def tell(self, arch: Architecture, measurement: Measurement) -> dict[str, float]:
        """Take in the measurement of a seed that was asked for, in the order of asking.

        Returns:
            numbers of this method for the trace, by name.
        """

    @property
    def best(self) -> Architecture:
        """The result of the search if it ended now and there were no limit on latency."""

    def best_of(self, archs: Collection[Architecture]) -> Architecture:
        """The one that the method prefers of ``archs``, at least one, all of which it was told of."""


class RandomSearch:
    """Seeds drawn at random; the result is the one with the smallest sum of ranks.

    Args:
        choices: what is searched.
        seed: with the number of the step, determines every draw.
    """

    def __init__(self, choices: Choices | None = None, *, seed: int = 0) -> None:
        self.choices = choices or Choices()
        self.seed = seed
        self.networks: list[Network] = []

    @property
    def best(self) -> Architecture:
        """The best of all networks that were measured."""
        return best_ranked(self.networks)

    def best_of(self, archs: Collection[Architecture]) -> Architecture:
        """The best of some of the networks that were measured."""
        return best_ranked([network for network in self.networks if network[0] in archs])

    def ask(self) -> Sequence[Architecture]:
        """The next draws, as many as a batch has."""
        return self._draw(BATCH)

    def tell(self, arch: Architecture, measurement: Measurement) -> dict[str, float]:
        """Take in a network; there is nothing to add to the trace."""
        self.networks.append((arch, measurement.values))
        return {}

    def _draw(self, count: int) -> list[Architecture]:
        first = len(self.networks)
        steps = range(first, first + count)
        return [self.choices.draw(np.random.default_rng([self.seed, step])) for step in steps]


class RegularizedEvolution(RandomSearch):
    """Regularized (aging) evolution: a mutant of a tournament's winner replaces the oldest network.

    Source: Real et al., Regularized Evolution for Image Classifier Architecture Search, arXiv
    1802.01548, algorithm 1, with a population of 50 and tournaments of 10 networks, drawn with replacement. A
    mutation gives one choice another value within the limits.
    """

    def __init__(self, choices: Choices | None = None, *, seed: int = 0) -> None:
        super().__init__(choices, seed=seed)
        self.alive: deque[Network] = deque(maxlen=POPULATION)

    def ask(self) -> Sequence[Architecture]:
        """The rest of the first population, then one child at a time."""
        first = len(self.networks)
        if first < POPULATION:
            return self._draw(POPULATION - first)
        rng = np.random.default_rng([self.seed, first])
        drawn = rng.integers(len(self.alive), size=TOURNAMENT)
        return [self._mutate(best_ranked([self.alive[i] for i in drawn]), rng)]

    def tell(self, arch: Architecture, measurement: Measurement) -> dict[str, float]:
        """Take in a network; if the population is full, the oldest leaves it."""
        super().tell(arch, measurement)
        self.alive.append(self.networks[-1])
        return {}

    def _mutate(self, parent: Architecture, rng: np.random.Generator) -> Architecture:
        """``parent`` with another value of one choice; if none is within the limits, a fresh draw."""
        fits, indices = self.choices.fits, self.choices.space.encode(parent)
        for k in rng.permutation(len(indices)):
            others = self.choices.variants(indices, k)
            del others[indices[k]]
            others = [child for child in others if fits is None or fits(child)]
            if others:
                return others[int(rng.integers(len(others)))]
        return self.choices.draw(rng)


def best_ranked(networks: Sequence[Network]) -> Architecture:
    """The best by :func:`~asvit_mm.nas.rank_networks`; the first one if none has an L^E."""
    ranking = rank_networks([values for _, values in networks])
    return networks[ranking.best if ranking else 0][0]


METHODS: dict[str, Callable[..., SearchMethod]] = {
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
        figures: numbers that the method adds to the trace.
        best: the best so far: the result if the search ends here; None: every network was too slow.
    """

    number: int
    arch: Architecture
    measurement: Measurement
    recalled: bool
    figures: dict[str, float]
    best: Architecture | None

    def to_record(self) -> dict[str, Any]:
        """Plain data for the trace."""
        return {
            'step': self.number,
            'arch': str(self.arch),
            **self.measurement.to_record(),
            'recalled': self.recalled,
            **self.figures,
            'best': None if self.best is None else str(self.best),
        }


def iterate_search(method: SearchMethod, measure: Memo, steps: int) -> Iterator[Step]:
    """Measure ``steps`` architectures that the method asks for, and yield each step."""
    number, told = 0, {}
    while number < steps:
        archs = list(method.ask())[: steps - number]
        for arch, (measurement, recalled) in zip(archs, measure(archs), strict=True):
            figures = method.tell(arch, measurement)
            told[arch] = measurement
            yield Step(number, arch, measurement, recalled, figures, result_of(method, told))
            number += 1


def result_of(
    method: SearchMethod, told: Mapping[Architecture, Measurement]
) -> Architecture | None:
    """The result of a search: the method's best, which for REINFORCE may never have been measured.

    With a limit on latency it is one of the networks that were timed and are within the limit: the method's
    best, or the one of them that it prefers.

    Args:
        told: what the method was told, the networks in the order of their first measurements.

    Returns:
        None if all are too slow.
    """
    best = method.best
    if all(measurement.latency_ms is None for measurement in told.values()):
        return best
    fast = [arch for arch, measurement in told.items() if measurement.refused is None]
    if best in fast:
        return best
    return method.best_of(fast) if fast else None
