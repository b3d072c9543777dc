"""Search methods that the paper's is compared with; both rank networks as auto-scaling does."""

from collections import deque
from collections.abc import Collection, Sequence

import numpy as np

from ..arch import Architecture
from .evaluator import Measurement
from .rewards import Value, fill_with_worst, rank_networks
from .space import Choices

BATCH = 32
POPULATION = 50
TOURNAMENT = 10

# Architecture, L^E and kappa.
Network = tuple[Architecture, Value, Value]


class RandomSearch:
    """Seeds drawn uniformly; the result is the one with the smallest sum of ranks.

    Args:
        choices: what is searched.
        seed: decides every draw.
    """

    def __init__(self, choices: Choices | None = None, *, seed: int = 0) -> None:
        self.choices = choices or Choices()
        self.seed = seed
        self.networks: list[Network] = []

    @property
    def best(self) -> Architecture:
        """The best of all networks that were measured."""
        return best_of(self.networks)

    def best_of(self, archs: Collection[Architecture]) -> Architecture:
        """The best of some of the networks that were measured."""
        return best_of([network for network in self.networks if network[0] in archs])

    def ask(self) -> Sequence[Architecture]:
        """Some draws."""
        first = len(self.networks)
        return [self._draw(step) for step in range(first, first + BATCH)]

    def tell(self, arch: Architecture, measurement: Measurement) -> dict[str, float]:
        """Take in a network; there is nothing to add to the trace."""
        self.networks.append((arch, *measurement.values))
        return {}

    def _draw(self, step: int) -> Architecture:
        return self.choices.draw(np.random.default_rng([self.seed, step]))


class RegularizedEvolution(RandomSearch):
    """Regularised (aging) evolution: a child of the best of some replaces the oldest network.

    Source: Real et al., Regularized Evolution for Image Classifier Architecture Search, arXiv
    1802.01548, algorithm 1. A mutation gives one choice another value that keeps the limits.

    Args:
        choices: what is searched.
        seed: decides every draw.
        population: networks alive, the first ones drawn uniformly.
        tournament: networks drawn with replacement, the best of which is the parent.
    """

    def __init__(
        self,
        choices: Choices | None = None,
        *,
        seed: int = 0,
        population: int = POPULATION,
        tournament: int = TOURNAMENT,
    ) -> None:
        super().__init__(choices, seed=seed)
        self.alive: deque[Network] = deque(maxlen=population)
        self.tournament = tournament

    def ask(self) -> Sequence[Architecture]:
        """The rest of the first population, then one child at a time."""
        first, size = len(self.networks), self.alive.maxlen
        assert size is not None
        if first < size:
            return [self._draw(step) for step in range(first, size)]
        rng = np.random.default_rng([self.seed, first])
        drawn = rng.integers(len(self.alive), size=self.tournament)
        return [self._mutate(best_of([self.alive[i] for i in drawn]), rng)]

    def tell(self, arch: Architecture, measurement: Measurement) -> dict[str, float]:
        """Take in a network; the oldest dies where there are too many."""
        super().tell(arch, measurement)
        self.alive.append(self.networks[-1])
        return {}

    def _mutate(self, parent: Architecture, rng: np.random.Generator) -> Architecture:
        """``parent`` with another value of one choice; if none keeps the limits, a fresh draw."""
        space, fits = self.choices.space, self.choices.fits
        indices = space.encode(parent)
        for k in rng.permutation(len(indices)):
            children = [
                space.decode([*indices[:k], i, *indices[k + 1 :]])
                for i in range(self.choices.sizes[k])
                if i != indices[k]
            ]
            others = [child for child in children if fits is None or fits(child)]
            if others:
                return others[int(rng.integers(len(others)))]
        return self.choices.draw(rng)


def best_of(networks: Sequence[Network]) -> Architecture:
    """The network with the smallest sum of its ranks by L^E and by kappa.

    A network without both values is chosen only if no network has both.
    """
    whole = [n for n in networks if None not in n[1:]] or networks
    lengths = fill_with_worst([length for _, length, _ in whole], larger_is_better=True)
    kappas = fill_with_worst([kappa for _, _, kappa in whole], larger_is_better=False)
    return whole[rank_networks(lengths, kappas).best][0]
