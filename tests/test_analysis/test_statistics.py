import math
from itertools import combinations, permutations, product

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from asvit_mm.analysis.statistics import (
    all_pairs,
    bootstrap_interval,
    correlate,
    kendall_tau,
    permutation_p,
    same_stratum_pairs,
)

SMALL = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 2)), min_size=2)


def slow_tau(x, y, pairs):
    """Count the pairs one at a time."""
    alike = opposite = x_ordered = y_ordered = 0
    for i, j in pairs:
        product_ = (x[i] - x[j]) * (y[i] - y[j])
        alike += product_ > 0
        opposite += product_ < 0
        x_ordered += x[i] != x[j]
        y_ordered += y[i] != y[j]
    if x_ordered == 0 or y_ordered == 0:
        return math.nan
    return (alike - opposite) / math.sqrt(x_ordered * y_ordered)


@given(SMALL)
def test_tau_is_the_count_of_pairs(points):
    x, y, strata = map(np.array, zip(*points, strict=True))
    every = list(combinations(range(len(x)), 2))
    same = [(i, j) for i, j in every if strata[i] == strata[j]]
    for pairs, slow in ((all_pairs(len(x)), every), (same_stratum_pairs(strata), same)):
        assert list(zip(*pairs, strict=True)) == slow
        assert float(kendall_tau(x, y, pairs)) == pytest.approx(slow_tau(x, y, slow), nan_ok=True)


@given(SMALL)
def test_correlate_is_scipys_tau(points):
    x, y, strata = zip(*points, strict=True)
    assume(len(set(x)) > 1 and len(set(y)) > 1)
    found = correlate(x, y, strata, resamples=9)
    expected = stats.kendalltau(x, y)
    assert found.tau == pytest.approx(expected.statistic)
    assert found.p == pytest.approx(expected.pvalue)
    turned = correlate(x, y, strata, higher_is_better=False, resamples=9)
    assert turned.tau == pytest.approx(-found.tau)


def test_leading_axes():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 9, (2, 3, 4, 7))
    pairs = all_pairs(7)
    found = kendall_tau(x, y, pairs)
    for i, j in product(range(3), range(4)):
        assert found[i, j] == kendall_tau(x[i, j], y[i, j], pairs)


def test_size_alone_has_no_tau_within_strata():
    """x follows the stratum only, so does y: tau is high and nothing is left within."""
    rng = np.random.default_rng(1)
    strata = np.repeat(range(4), 15)
    x, y = strata + 0.1 * rng.random(60), strata + 0.1 * rng.random(60)
    found = correlate(x, y, strata)
    assert found.tau > 0.6
    assert found.p < 1e-6
    assert found.low < found.tau < found.high
    assert abs(found.tau_within) < 0.15
    assert found.p_within > 0.1
    assert found.pairs_within == 4 * 15 * 14 // 2


def test_interval_is_that_of_a_plain_bootstrap():
    rng = np.random.default_rng(2)
    x = rng.random(25)
    y = x + rng.random(25)
    low, high = bootstrap_interval(x, y, seed=0, resamples=2000)
    taus = []
    for _ in range(2000):
        chosen = rng.integers(0, 25, 25)
        taus.append(stats.kendalltau(x[chosen], y[chosen]).statistic)
    assert [low, high] == pytest.approx(np.percentile(taus, [2.5, 97.5]), abs=0.03)
    assert (low, high) == bootstrap_interval(x, y, seed=0, resamples=2000)
    assert (low, high) != bootstrap_interval(x, y, seed=1, resamples=2000)


def test_degenerate_resamples_are_left_out():
    """Of three points a resample is often one of them three times."""
    low, high = bootstrap_interval(np.arange(3.0), np.arange(3.0), seed=0, resamples=500)
    assert (low, high) == (1, 1)


def test_permutation_p_is_that_of_all_permutations():
    rng = np.random.default_rng(3)
    strata = np.array([0, 1, 0, 1, 0, 1, 0, 1])
    x = rng.random(8)
    y = x + 0.5 * rng.random(8)
    pairs = same_stratum_pairs(strata)
    observed = abs(float(kendall_tau(x, y, pairs)))
    taus = []
    for even, odd in product(permutations(y[::2]), permutations(y[1::2])):
        shuffled = np.empty(8)
        shuffled[::2], shuffled[1::2] = even, odd
        taus.append(abs(float(kendall_tau(x, shuffled, pairs))))
    exact = np.mean(np.array(taus) >= observed - 1e-12)
    assert permutation_p(x, y, strata, seed=0, resamples=20_000) == pytest.approx(exact, abs=0.01)


@pytest.mark.parametrize(
    ('values', 'target'), [([], []), ([1.0], [2.0]), ([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [5, 5, 5])]
)
def test_undefined(values, target):
    found = correlate(values, target, [0] * len(values))
    assert found.n == len(values)
    assert all(math.isnan(x) for x in (found.tau, found.p, found.low, found.tau_within))


def test_one_architecture_a_stratum_has_a_tau_but_none_within():
    found = correlate([1, 2, 3], [1, 3, 2], [0, 1, 2], resamples=99)
    assert found.tau == pytest.approx(1 / 3)
    assert math.isnan(found.tau_within)
    assert math.isnan(found.p_within)
    assert found.pairs_within == 0


def test_deterministic():
    rng = np.random.default_rng(4)
    x, y, strata = rng.random(20), rng.random(20), np.arange(20) % 4
    assert correlate(x, y, strata, seed=5) == correlate(x, y, strata, seed=5)
