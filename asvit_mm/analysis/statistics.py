"""Statistics of the studies: rank correlation with its error, percentiles among random seeds, repeat noise.

``None`` as a value stands for a network that could not be measured: it is worse than every value, and equal
to another ``None``.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from ..arch import SEARCH_SPACE, Architecture, SearchSpace
from ..data.images import Seed
from ..errors import InputError
from ..measures import Score

RESAMPLES = 999
CONFIDENCE = 0.95
MAX_SEEDS = 10_000
# What a search measures, and whether higher is better.
MEASURED = {'length_distortion': True, 'ntk_condition_number': False}

Value = float | None
Pair = tuple[Value, Value]  # L^E and kappa


def kendall_tau(values: Sequence[float], target: Sequence[float], seed: int) -> dict[str, Value]:
    """Kendall's tau-b, positive where a higher value goes with a higher target, and its interval.

    Args:
        seed: decides the resamples of the bootstrap.

    Returns:
        ``tau``; ``low`` and ``high``, the percentile bootstrap interval. None for what is not defined: tau
        where all are equal, the interval where all are equal in a resample, as happens with a few points.
    """

    def statistic(x: Sequence[float], y: Sequence[float]) -> float:
        return float(stats.kendalltau(x, y).statistic)

    if len(values) < 2:
        return dict.fromkeys(('tau', 'low', 'high'))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', stats.DegenerateDataWarning)
        low, high = stats.bootstrap(
            (values, target),
            statistic,
            n_resamples=RESAMPLES,
            vectorized=False,
            paired=True,
            confidence_level=CONFIDENCE,
            method='percentile',
            random_state=np.random.default_rng(seed),
        ).confidence_interval
    found = {'tau': statistic(values, target), 'low': float(low), 'high': float(high)}
    return {key: value if math.isfinite(value) else None for key, value in found.items()}


def draw_seeds(num: int, seed: Seed, space: SearchSpace = SEARCH_SPACE) -> list[Architecture]:
    """``num`` distinct seeds of a search space, drawn uniformly.

    Args:
        seed: decides the draw; a larger draw of the same ``seed`` begins with these.

    Raises:
        InputError: more than 10,000 are asked for.
    """
    if num > MAX_SEEDS:
        raise InputError(f'{num} architectures are too many for a study: give at most {MAX_SEEDS}')
    rng = np.random.default_rng(seed)
    drawn: dict[Architecture, None] = {}
    while len(drawn) < num:
        drawn[space.sample(rng)] = None
    return list(drawn)


def mean_of(networks: Sequence[Value]) -> Value:
    """The mean over an architecture's networks, as a search takes it; None as soon as one is."""
    if None in networks:
        return None
    return Score.mean([Score(value) for value in networks if value is not None]).value


def percentiles(pair: Pair, others: Sequence[Pair]) -> list[float]:
    """Per cent of the others that ``pair`` is better than: by L^E, by kappa and by the sum of both ranks.

    Those equal to it count half.
    """
    ranks = [
        stats.rankdata(
            [-math.inf if v is None else v if higher else -v for v in column], method='average'
        )
        for column, higher in zip(zip(pair, *others, strict=True), MEASURED.values(), strict=True)
    ]
    return [
        float(stats.percentileofscore(column[1:], column[0], kind='mean'))
        for column in (*ranks, sum(ranks))
    ]


def repeat_noise(values: np.ndarray) -> dict[str, Any]:
    """How far the networks of one architecture differ, beside how far architectures do.

    Two-way analysis of variance of the logarithms without replication: what a network's batch and curve add
    to all architectures alike changes no rank and counts as neither (Shrout and Fleiss, Intraclass
    Correlations, 1979, model 3).

    Args:
        values: (architectures, networks) of one measure; NaN where there is no value. Architectures that lack
            one are left out.

    Returns:
        Plain data, None for what is not defined: the number of ``architectures``; the standard deviations
        ``between`` architectures and ``within`` the networks of one; ``reliability`` of the mean of 1, 2, ...
        networks, its expected correlation with that of as many others.
    """
    whole = values[(values > 0).all(1)]
    n, networks = whole.shape
    if min(n, networks) < 2:
        return {'architectures': n, 'between': None, 'within': None, 'reliability': []}
    logs = np.log(whole)
    rows, columns = logs.mean(1, keepdims=True), logs.mean(0, keepdims=True)
    within = float(((logs - rows - columns + logs.mean()) ** 2).sum() / ((n - 1) * (networks - 1)))
    between = max(float(rows.var(ddof=1)) - within / networks, 0.0)
    reliability = [r * between / (r * between + within) for r in range(1, networks + 1) if within]
    return {
        'architectures': n,
        'between': math.sqrt(between),
        'within': math.sqrt(within),
        'reliability': reliability,
    }
