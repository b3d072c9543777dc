"""Rewards and ranks: pure functions of floats.

Source: As-ViT (arXiv 2202.11921), sections 3.3 and 3.4, and its published code. L^E, the
expected length distortion, is better when larger; kappa, the NTK condition number, when smaller.
``None`` stands for the value of a network that could not be measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass

RANGE_WINDOW = 20
RANGE_EPSILON = 1e-6

Value = float | None


def fill_with_worst(values: Sequence[Value], larger_is_better: bool) -> list[float]:
    """``values`` with every None replaced by the worst of the others (0 if there is no other).

    So an invalid network counts as the worst seen so far. As in the published code, a worse value that
    comes later also changes what invalid networks before it count as.
    """
    seen = [value for value in values if value is not None]
    worst = (min(seen) if larger_is_better else max(seen)) if seen else 0.0
    return [worst if value is None else value for value in values]


def metric_change(values: Sequence[float], window: int = RANGE_WINDOW) -> float:
    """Last step's change over the range of the last ``window`` values, the newest included.

    0 for a first value: (m_t - m_{t-1}) / (max - min + 1e-6), which lies within [-1, 1].
    """
    if len(values) < 2:
        return 0.0
    recent = values[-window:]
    return (values[-1] - values[-2]) / (max(recent) - min(recent) + RANGE_EPSILON)


def reward(
    length_distortions: Sequence[Value], kappas: Sequence[Value], window: int = RANGE_WINDOW
) -> float:
    """REINFORCE's reward of the newest network: change of L^E minus change of kappa.

    Args:
        length_distortions, kappas: all values of the run so far, the newest network's last.
    """
    lengths = fill_with_worst(length_distortions, larger_is_better=True)
    return metric_change(lengths, window) - metric_change(
        fill_with_worst(kappas, larger_is_better=False), window
    )


@dataclass
class MovingAverage:
    """Exponential moving average, corrected for its start at zero: REINFORCE's baseline."""

    momentum: float = 0.9
    weighted_sum: float = 0.0
    weight: float = 0.0

    def update(self, value: float) -> float:
        """Take in ``value`` and return the average, ``value`` included."""
        self.weighted_sum = self.momentum * self.weighted_sum + (1 - self.momentum) * value
        self.weight = self.momentum * self.weight + (1 - self.momentum)
        return self.weighted_sum / self.weight


def dense_ranks(values: Sequence[float], larger_is_better: bool) -> list[int]:
    """Rank of each value from 0 for the best; equal values share one, and none is skipped."""
    order = sorted(set(values), reverse=larger_is_better)
    rank = {value: i for i, value in enumerate(order)}
    return [rank[value] for value in values]


def relative_range(values: Sequence[float]) -> float:
    """(max - min) / max of values that are not negative; 0 where all of them are 0."""
    largest = max(values)
    return (largest - min(values)) / largest if largest > 0 else 0.0


@dataclass(frozen=True)
class Ranking:
    """Which of several networks is best, and why.

    Attributes:
        best: index of the chosen network.
        length_ranks, kappa_ranks: dense rank of each network by L^E and by kappa, 0 for the best.
        tie_break: 'length_distortion' or 'kappa' if the rank sums tied and that measure decided.
    """

    best: int
    length_ranks: tuple[int, ...]
    kappa_ranks: tuple[int, ...]
    tie_break: str | None = None


def rank_networks(length_distortions: Sequence[float], kappas: Sequence[float]) -> Ranking:
    """Choose the network with the smallest sum of its ranks by L^E and by kappa.

    Among those that tie, the measure with the larger relative range over all networks decides (kappa if
    the ranges are equal too), and if that ties as well the first one is chosen.
    """
    length_ranks = dense_ranks(length_distortions, larger_is_better=True)
    kappa_ranks = dense_ranks(kappas, larger_is_better=False)
    sums = [a + b for a, b in zip(length_ranks, kappa_ranks, strict=True)]
    tied = [i for i, total in enumerate(sums) if total == min(sums)]
    tie_break = None
    if len(tied) > 1:
        by_length = relative_range(length_distortions) > relative_range(kappas)
        tie_break = 'length_distortion' if by_length else 'kappa'
        tied.sort(key=(length_ranks if by_length else kappa_ranks).__getitem__)
    return Ranking(tied[0], tuple(length_ranks), tuple(kappa_ranks), tie_break)
