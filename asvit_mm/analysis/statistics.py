"""How well a measure orders architectures as their accuracy does: Kendall's tau, with its error.

tau-b counts the pairs that two quantities order alike, less those that they order oppositely, over the
geometric mean of the pairs that each of them orders at all (Kendall 1945).
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

RESAMPLES = 9999
CONFIDENCE = 0.95
# Entries of the largest array of pairs at a time.
_BATCH_ENTRIES = 2**21

Pairs = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Correlation:
    """Kendall's tau-b between a measure and a target; NaN where it is not defined.

    Attributes:
        n: architectures.
        tau: positive where a better score goes with a higher target.
        p: two-sided, of the hypothesis that there is no relation (scipy's: exact for few architectures
            without ties, normal approximation otherwise).
        low, high: bootstrap 95 % interval of tau (percentiles over resampled architectures).
        tau_within: tau over the pairs of the same stratum only: what is left when size is held.
        p_within: two-sided, by permuting the target within the strata.
        pairs_within: how many pairs those are.
    """

    n: int
    tau: float = math.nan
    p: float = math.nan
    low: float = math.nan
    high: float = math.nan
    tau_within: float = math.nan
    p_within: float = math.nan
    pairs_within: int = 0


def correlate(
    values: Sequence[float],
    target: Sequence[float],
    strata: Sequence[int],
    *,
    higher_is_better: bool = True,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Correlation:
    """Correlation of a measure with a target, one entry an architecture, all of them finite.

    Args:
        values: of the measure.
        target: what is to be predicted; higher is better.
        strata: the stratum of size of each architecture.
        higher_is_better: of the measure; where it is not, the values are negated first.
        seed: decides the resamples and the permutations.
        resamples: how many there are of each.
    """
    x = np.asarray(values, dtype=float) * (1 if higher_is_better else -1)
    y, groups = np.asarray(target, dtype=float), np.asarray(strata)
    within = same_stratum_pairs(groups)
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Correlation(len(x), pairs_within=len(within[0]))
    tau, p = stats.kendalltau(x, y)
    low, high = bootstrap_interval(x, y, seed, resamples)
    return Correlation(
        len(x),
        tau=float(tau),
        p=float(p),
        low=low,
        high=high,
        tau_within=float(kendall_tau(x, y, within)),
        p_within=permutation_p(x, y, groups, seed, resamples),
        pairs_within=len(within[0]),
    )


def kendall_tau(x: np.ndarray, y: np.ndarray, pairs: Pairs) -> np.ndarray:
    """tau-b of the given pairs: (..., n) and (..., n) to (...).

    Args:
        pairs: indices of the first and of the second of each pair.

    Returns:
        NaN where x or y orders no pair.
    """
    first, second = pairs
    dx = np.sign(x[..., first] - x[..., second])
    dy = np.sign(y[..., first] - y[..., second])
    ordered = np.sqrt(np.abs(dx).sum(-1) * np.abs(dy).sum(-1))
    return np.where(ordered > 0, (dx * dy).sum(-1) / np.where(ordered > 0, ordered, 1), np.nan)


def all_pairs(n: int) -> Pairs:
    """Every pair i < j of n."""
    first, second = np.triu_indices(n, 1)
    return first, second


def same_stratum_pairs(strata: np.ndarray) -> Pairs:
    """Every pair i < j of one stratum."""
    first, second = all_pairs(len(strata))
    same = strata[first] == strata[second]
    return first[same], second[same]


def bootstrap_interval(
    x: np.ndarray, y: np.ndarray, seed: int, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """95 % interval of tau-b over architectures drawn with replacement (scipy's paired bootstrap).

    A resample in which x or y has one value only has no tau and is left out.
    """
    pairs = all_pairs(len(x))
    with warnings.catch_warnings():
        # scipy's own interval is NaN where a resample has no tau; ours is not.
        warnings.simplefilter('ignore', stats.DegenerateDataWarning)
        drawn = stats.bootstrap(
            (x, y),
            lambda a, b, axis=-1: kendall_tau(a, b, pairs),
            paired=True,
            vectorized=True,
            batch=_batch(pairs),
            n_resamples=resamples,
            confidence_level=CONFIDENCE,
            method='percentile',
            random_state=np.random.default_rng(seed),
        ).bootstrap_distribution
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return math.nan, math.nan
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return float(low), float(high)


def permutation_p(
    x: np.ndarray, y: np.ndarray, strata: np.ndarray, seed: int, resamples: int = RESAMPLES
) -> float:
    """Two-sided p-value of the tau within strata: the target permuted within each stratum.

    The share of permutations, the observed order counted among them, whose tau is as large. NaN
    where there is no tau within strata.
    """
    pairs = same_stratum_pairs(strata)
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
