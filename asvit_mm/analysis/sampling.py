"""Architectures for a study, drawn so that every size is there in equal numbers."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..arch import SEARCH_SPACE, Architecture
from ..errors import InputError

# The pool is what the quantiles of size are taken of: large beside what is drawn from it.
POOL = 2000
POOL_PER_DRAWN = 20
MAX_NUM = 10_000


@dataclass(frozen=True)
class Sampled:
    """An architecture of a study, its parameters and the stratum of size that it was drawn from."""

    arch: Architecture
    params: int
    stratum: int


def sample_architectures(
    num: int, count_params: Callable[[Architecture], int], *, strata: int = 4, seed: int = 0
) -> list[Sampled]:
    """Distinct seeds of the search space, equally many of each stratum of parameter count.

    A pool of at least 2,000 distinct seeds is drawn uniformly, ranked by parameters and cut into
    ``strata`` parts of equal number (quantiles); each gives its share of ``num``. The result is
    shuffled, so that taking every other one does not take all of a size.

    Args:
        num: architectures to draw; where ``strata`` does not divide it, shares differ by one.
        count_params: the size that the strata are of.
        strata: how many; 1 is a uniform sample.
        seed: decides the pool, the draw and the order.

    Raises:
        InputError: fewer architectures than strata, no stratum, or more than 10,000 architectures.
    """
    if not 1 <= strata <= num:
        raise InputError(
            f'{num} architectures cannot be drawn from {strata} strata: give from 1 to {num} strata'
        )
    if num > MAX_NUM:
        raise InputError(f'{num} architectures are too many for a study: give at most {MAX_NUM}')
    rng = np.random.default_rng(seed)
    size = max(POOL, POOL_PER_DRAWN * num)
    drawn: dict[Architecture, None] = {}
    while len(drawn) < size:
        drawn[SEARCH_SPACE.sample(rng)] = None
    pool = list(drawn)
    params = [count_params(arch) for arch in pool]
    stratum = quantile_strata(params, strata)
    return [
        Sampled(pool[i], params[i], int(stratum[i]))
        for i in draw_equally(stratum, num, strata, rng)
    ]


def quantile_strata(sizes: list[int], strata: int) -> np.ndarray:
    """Stratum (len(sizes),) of each size, from 0 for the smallest: rank * strata // number.

    Equal sizes are ranked in the order given.
    """
    ranks = np.empty(len(sizes), dtype=np.int64)
    ranks[np.argsort(sizes, kind='stable')] = np.arange(len(sizes))
    return ranks * strata // len(sizes)


def draw_equally(stratum: np.ndarray, num: int, strata: int, rng: np.random.Generator) -> list[int]:
    """Indices of ``num`` members, equally many of each stratum (give or take one), in random order."""
    drawn: list[int] = []
    for s in range(strata):
        share = (s + 1) * num // strata - s * num // strata
        drawn += rng.choice(np.flatnonzero(stratum == s), share, replace=False).tolist()
    return [drawn[i] for i in rng.permutation(len(drawn))]
