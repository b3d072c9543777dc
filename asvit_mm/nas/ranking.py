"""The best of several networks by L^E and kappa (As-ViT, arXiv 2202.11921, section 3.4).

L^E, the expected length distortion, is better when larger; kappa, the NTK condition number, when smaller.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# None stands for what could not be measured.
Value = float | None


@dataclass(frozen=True)
class Ranking:
    """Which of several networks is best, and why.

    Attributes:
        best: index of the chosen network.
        ranks: of each network by L^E and by kappa, from 0 for the best; None for one that cannot be chosen.
        tie_break: 'length_distortion' or 'kappa' if the rank sums tied and that measure decided.
    """

    best: int
    ranks: tuple[tuple[int, int] | None, ...]
    tie_break: str | None = None


def rank_networks(values: Sequence[tuple[Value, Value]]) -> Ranking | None:
    """Choose the network with the smallest sum of its ranks by L^E and by kappa.

    Among those that tie, the measure with the larger relative range over all networks decides (kappa if
    the ranges are equal too), and if that ties as well the first one is chosen. A network without kappa is
    ranked only if no network has both values (L^E decides then), a network without L^E never.

    Returns:
        None if no network has an L^E.
    """
    ranked = [i for i, pair in enumerate(values) if None not in pair] or [
        i for i, (length, _) in enumerate(values) if length is not None
    ]
    if not ranked:
        return None
    # All of them have a kappa, or none has.
    lengths, kappas = np.nan_to_num(np.array([values[i] for i in ranked], float)).T
    length_ranks, kappa_ranks = dense_ranks(-lengths), dense_ranks(kappas)
    sums = length_ranks + kappa_ranks
    tied = np.flatnonzero(sums == sums.min())
    tie_break = None
    if len(tied) > 1:
        by_length = relative_range(lengths) > relative_range(kappas)
        tie_break = 'length_distortion' if by_length else 'kappa'
        tied = tied[[np.argmin((length_ranks if by_length else kappa_ranks)[tied])]]
    ranks: list[tuple[int, int] | None] = [None] * len(values)
    for i, length, kappa in zip(ranked, length_ranks.tolist(), kappa_ranks.tolist(), strict=True):
        ranks[i] = (length, kappa)
    return Ranking(ranked[tied[0]], tuple(ranks), tie_break)


def dense_ranks(values: np.ndarray) -> np.ndarray:
    """Rank of each value from 0 for the smallest; equal values share one, and none is skipped."""
    return np.unique(values, return_inverse=True)[1]


def relative_range(values: np.ndarray) -> float:
    """(max - min) / max of values that are not negative; 0 where all of them are 0."""
    largest = values.max()
    return float((largest - values.min()) / largest) if largest > 0 else 0.0
