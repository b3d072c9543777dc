"""The networks of a run that no other one beats in everything, and the score that they are compared by."""

from collections.abc import Sequence

import numpy as np

from .ranking import Value


def pareto_front(costs: Sequence[Sequence[float]]) -> list[int]:
    """Indices of the points that no other point dominates, in their order.

    A point dominates another if it is at most as large in every coordinate and smaller in one. Of points that
    are equal the first one is kept.

    Args:
        costs: points, every coordinate of which is better when smaller.
    """
    points = np.asarray(costs, float)
    front = []
    for i, point in enumerate(points):
        no_larger, smaller = (points <= point).all(1), (points < point).any(1)
        equal = (points[:i] == point).all(1)
        if not (no_larger & smaller).any() and not equal.any():
            front.append(i)
    return front


def percentile_scores(values: Sequence[tuple[Value, Value]]) -> list[float | None]:
    """For each network the mean of its percentiles by L^E and by kappa among all of them, 0 to 100.

    The percentile is the share of the other networks that a network is better than, equal ones counting half.
    None where a measure has no value.
    """
    whole = [i for i, pair in enumerate(values) if None not in pair]
    scores: list[float | None] = [None] * len(values)
    if len(whole) < 2:
        for i in whole:
            scores[i] = 50.0
        return scores
    pairs = np.array([values[i] for i in whole], float) * [1, -1]
    better = (pairs[:, None] > pairs).sum(1) + 0.5 * ((pairs[:, None] == pairs).sum(1) - 1)
    percentiles = 100 * better / (len(whole) - 1)
    for i, score in zip(whole, percentiles.mean(1).tolist(), strict=True):
        scores[i] = score
    return scores
