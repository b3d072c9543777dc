"""Statistics of the studies: rank correlation with its error, percentiles among random seeds, repeatability.

``None`` as a value stands for a network that could not be measured: it is worse than every value, and equal
to another ``None``.
"""

import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from ..arch import SEARCH_SPACE, Architecture
from ..data.images import Seed
from ..errors import InputError
from ..measures import Score

RESAMPLES = 9999
CONFIDENCE = 0.95
MAX_SEEDS = 10_000
# A study of repeats looks at this many groups of networks at most.
MAX_GROUPS = 200
# What a search measures, and whether higher is better.
MEASURED = {'length_distortion': True, 'ntk_condition_number': False}
# Entries of the largest array of pairs at a time.
_BATCH_ENTRIES = 2**21

Value = float | None
Pair = tuple[Value, Value]  # L^E and kappa
Pairs = tuple[np.ndarray, np.ndarray]


# ---- Kendall's tau


@dataclass(frozen=True)
class Correlation:
    """Kendall's tau-b between a measure and a target; NaN where it is not defined.

    Attributes:
        n: architectures.
        tau: positive where a better score goes with a higher target.
        p: two-sided, of no relation (scipy's: exact for few architectures without ties).
        low, high: bootstrap 95 % interval of tau (percentiles over resampled architectures).
        tau_within: tau over pairs of the same stratum only: what is left when size is held.
        p_within: two-sided, by permuting the target within the strata.
    """

    n: int
    tau: float = math.nan
    p: float = math.nan
    low: float = math.nan
    high: float = math.nan
    tau_within: float = math.nan
    p_within: float = math.nan


def correlate(
    values: Sequence[float],
    target: Sequence[float],
    strata: Sequence[int],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Correlation:
    """Correlation of a score with a target, one finite entry per architecture, higher being better in both.

    Args:
        strata: the stratum of size of each architecture.
        seed: decides the resamples and the permutations, ``resamples`` of each.
    """
    x, y, groups = (np.asarray(v, dtype=float) for v in (values, target, strata))
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Correlation(len(x))
    tau, p = map(float, stats.kendalltau(x, y))
    low, high = bootstrap_interval(x, y, seed, resamples)
    tau_within = float(kendall_tau(x, y, pairs_of(groups)))
    p_within = permutation_p(x, y, groups, seed, resamples)
    return Correlation(len(x), tau, p, low, high, tau_within, p_within)


def pairs_of(strata: np.ndarray) -> Pairs:
    """Indices of the first and of the second of every pair i < j of one stratum."""
    first, second = np.triu_indices(len(strata), 1)
    same = strata[first] == strata[second]
    return first[same], second[same]


def kendall_tau(x: np.ndarray, y: np.ndarray, pairs: Pairs) -> np.ndarray:
    """tau-b over the given pairs, of many samples at once: (..., n) and (..., n) to (...).

    Pairs that both order alike, less those ordered oppositely, over the geometric mean of the pairs that each
    of them orders at all (Kendall 1945). NaN where x or y orders none.
    """
    first, second = pairs
    dx = np.sign(x[..., first] - x[..., second])
    dy = np.sign(y[..., first] - y[..., second])
    ordered = np.sqrt(np.abs(dx).sum(-1) * np.abs(dy).sum(-1))
    return np.where(ordered > 0, (dx * dy).sum(-1) / np.where(ordered > 0, ordered, 1), np.nan)


def bootstrap_interval(
    x: np.ndarray, y: np.ndarray, seed: int, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """95 % interval of tau-b over architectures drawn with replacement.

    A resample in which x or y has one value only has no tau and is left out, which scipy's own interval does
    not do.
    """
    pairs = pairs_of(np.zeros(len(x)))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', stats.DegenerateDataWarning)
        drawn = stats.bootstrap(
            (x, y),
            lambda a, b, axis=-1: kendall_tau(a, b, pairs),
            paired=True,
            vectorized=True,
            batch=_batch(pairs),
            n_resamples=resamples,
            method='percentile',
            random_state=np.random.default_rng(seed),
        ).bootstrap_distribution
    if np.isnan(drawn).all():
        return math.nan, math.nan
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.nanpercentile(drawn, [tail, 100 - tail])
    return float(low), float(high)


def permutation_p(
    x: np.ndarray, y: np.ndarray, strata: np.ndarray, seed: int, resamples: int = RESAMPLES
) -> float:
    """Two-sided p-value of the tau within strata: the target permuted within each stratum.

    The share of permutations, the observed order counted among them, whose tau is as large; NaN where there
    is no tau within strata.
    """
    pairs = pairs_of(strata)
    observed = np.abs(kendall_tau(x, y, pairs))
    if np.isnan(observed):
        return math.nan
    rng = np.random.default_rng(seed)
    as_large, left, batch = 1, resamples, _batch(pairs)
    while left > 0:
        shuffled = np.tile(y, (min(left, batch), 1))
        for stratum in np.unique(strata):
            members = np.flatnonzero(strata == stratum)
            shuffled[:, members] = rng.permuted(shuffled[:, members], axis=1)
        taus = kendall_tau(np.broadcast_to(x, shuffled.shape), shuffled, pairs)
        as_large += int((np.abs(taus) >= observed - 1e-12).sum())
        left -= len(shuffled)
    return as_large / (resamples + 1)


def _batch(pairs: Pairs) -> int:
    return max(1, _BATCH_ENTRIES // max(1, len(pairs[0])))


# ---- Percentiles among random seeds


def draw_seeds(num: int, seed: Seed) -> list[Architecture]:
    """``num`` distinct seeds of the search space, drawn uniformly.

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
        drawn[SEARCH_SPACE.sample(rng)] = None
    return list(drawn)


def mean_of(networks: Sequence[Value]) -> Value:
    """The mean over an architecture's networks, as a search takes it; None as soon as one is."""
    if None in networks:
        return None
    return Score.mean([Score(value) for value in networks if value is not None]).value


def percentile(value: Value, others: Sequence[Value], *, higher_is_better: bool) -> float:
    """Per cent of the others that ``value`` is better than, those equal to it counted half."""
    signed = _signed((value, *others), higher_is_better)
    return float(stats.percentileofscore(signed[1:], signed[0], kind='mean'))


def percentiles(pair: Pair, others: Sequence[Pair]) -> list[float]:
    """:func:`percentile` of L^E and of kappa."""
    return [
        percentile(pair[i], [other[i] for other in others], higher_is_better=higher)
        for i, higher in enumerate(MEASURED.values())
    ]


def rank_sum_percentile(pair: Pair, others: Sequence[Pair]) -> float:
    """:func:`percentile` of the sum of the ranks by L^E and by kappa, all ranked together."""
    sums = sum(
        stats.rankdata(_signed([one[i] for one in (pair, *others)], higher))
        for i, higher in enumerate(MEASURED.values())
    )
    return percentile(sums[0], sums[1:].tolist(), higher_is_better=True)


def _signed(values: Sequence[Value], higher_is_better: bool) -> list[float]:
    sign = 1 if higher_is_better else -1
    return [-math.inf if value is None else sign * value for value in values]


def variance_shares(seeds: Sequence[Architecture], values: Sequence[Value]) -> dict[str, Value]:
    """Share of the variance of a measure's logarithm that each choice of the search space explains.

    Eta squared: the variance of the means of the seeds with equal values of the choice, over the whole. By
    chance alone a choice of m values explains (m - 1) / (n - 1) among n seeds.

    Args:
        values: of each seed, positive; None: left out.

    Returns:
        of every choice, from 0 to 1; None where no two values differ.
    """
    known = [(seed, math.log(v)) for seed, v in zip(seeds, values, strict=True) if v is not None]
    logs = np.array([log for _, log in known])
    if np.unique(logs).size < 2:
        return dict.fromkeys(SEARCH_SPACE.choices)
    groups = np.array([SEARCH_SPACE.encode(seed) for seed, _ in known]).T
    shares: dict[str, Value] = {}
    for name, group in zip(SEARCH_SPACE.choices, groups, strict=True):
        _, inverse = np.unique(group, return_inverse=True)
        means = np.bincount(inverse, logs) / np.bincount(inverse)
        shares[name] = float(means[inverse].var() / logs.var())
    return shares


# ---- Repeats


def repeat_table(values: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """How well the mean over some networks of each architecture ranks them as the mean over the others does.

    Args:
        values: (architectures, networks) of one measure, at least two networks; NaN where there is no value.
            Architectures that lack one are left out.
        seed: decides the groups of networks where there are too many to look at all.

    Returns:
        Plain data, None for what is not defined: the numbers ``architectures`` and ``left_out``;
        ``variance_ratio``, see :func:`variances`, of the logarithms; ``rows``: for each number of
        ``networks`` the mean ``tau`` and its ``tau_std`` over the groups of so many, and the
        ``reliability``, the expected correlation with the mean of as many others.
    """
    whole = values[np.isfinite(values).all(1)]
    between, within = variances(np.log(whole)) if len(whole) > 1 and (whole > 0).all() else (0, 0)
    ratio = between / within if within > 0 else None
    rows = []
    for r in range(1, values.shape[1]):
        taus = []
        for chosen in _groups(values.shape[1], r, seed) if len(whole) > 1 else ():
            others = np.delete(whole, chosen, axis=1).mean(1)
            taus.append(stats.kendalltau(whole[:, chosen].mean(1), others).statistic)
        known = bool(taus) and np.isfinite(taus).all()
        rows.append(
            {
                'networks': r,
                'tau': float(np.mean(taus)) if known else None,
                'tau_std': float(np.std(taus)) if known else None,
                'reliability': None if ratio is None else r * ratio / (r * ratio + 1),
            }
        )
    left_out = len(values) - len(whole)
    return {
        'architectures': len(whole), 'left_out': left_out, 'variance_ratio': ratio, 'rows': rows,
    }  # fmt: skip


def variances(values: np.ndarray) -> tuple[float, float]:
    """Variance between architectures and between the networks of one; unbiased, the first at least 0.

    Two-way analysis of variance without replication: what a network's batch and curve add to all
    architectures alike changes no rank and counts as neither (Shrout and Fleiss, Intraclass Correlations,
    1979, model 3).

    Args:
        values: (architectures, networks), at least two of each.
    """
    n, networks = values.shape
    rows, columns = values.mean(1, keepdims=True), values.mean(0, keepdims=True)
    rest = values - rows - columns + values.mean()
    within = float((rest**2).sum() / ((n - 1) * (networks - 1)))
    return max(float(rows.var(ddof=1)) - within / networks, 0.0), within


def _groups(networks: int, size: int, seed: int) -> list[list[int]]:
    """All groups of ``size`` of the networks, or ``MAX_GROUPS`` drawn ones where there are more."""
    if math.comb(networks, size) <= MAX_GROUPS:
        return [list(group) for group in itertools.combinations(range(networks), size)]
    rng = np.random.default_rng([seed, size])
    return [rng.permutation(networks)[:size].tolist() for _ in range(MAX_GROUPS)]
