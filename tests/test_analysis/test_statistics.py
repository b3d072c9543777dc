import itertools
import math
from itertools import combinations, permutations, product

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from asvit_mm.analysis.statistics import (
    MAX_GROUPS,
    bootstrap_interval,
    correlate,
    draw_seeds,
    kendall_tau,
    mean_of,
    pairs_of,
    percentile,
    percentiles,
    permutation_p,
    rank_sum_percentile,
    repeat_table,
    variance_shares,
    variances,
)
from asvit_mm.analysis.statistics import _groups as groups
from asvit_mm.arch import SEARCH_SPACE
from asvit_mm.errors import InputError

# ---- Kendall's tau

SMALL = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 2)), min_size=2)


def slow_tau(x, y, pairs):
    """Count the pairs one at a time."""
    alike = opposite = x_ordered = y_ordered = 0
    for i, j in pairs:
        sign = (x[i] - x[j]) * (y[i] - y[j])
        alike += sign > 0
        opposite += sign < 0
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
    for pairs, slow in ((pairs_of(0 * strata), every), (pairs_of(strata), same)):
        assert list(zip(*pairs, strict=True)) == slow
        assert float(kendall_tau(x, y, pairs)) == pytest.approx(slow_tau(x, y, slow), nan_ok=True)


@given(SMALL)
def test_correlate_is_scipys_tau(points):
    x, y, strata = zip(*points, strict=True)
    assume(len(set(x)) > 1 and len(set(y)) > 1)
    found, expected = correlate(x, y, strata, resamples=9), stats.kendalltau(x, y)
    assert (found.tau, found.p) == pytest.approx((expected.statistic, expected.pvalue))


def test_size_alone_has_no_tau_within_strata():
    """x follows the stratum only, so does y: tau is high and nothing is left within."""
    rng = np.random.default_rng(1)
    strata = np.repeat(range(4), 15)
    x, y = strata + 0.1 * rng.random(60), strata + 0.1 * rng.random(60)
    found = correlate(x, y, strata, resamples=999)
    assert found == correlate(x, y, strata, resamples=999)
    assert found.tau > 0.6
    assert found.p < 1e-6
    assert found.low < found.tau < found.high
    assert abs(found.tau_within) < 0.15
    assert found.p_within > 0.1


def test_interval_is_that_of_a_plain_bootstrap():
    rng = np.random.default_rng(2)
    x = rng.random(25)
    y = x + rng.random(25)
    low, high = bootstrap_interval(x, y, seed=0, resamples=2000)
    taus = []
    for _ in range(1000):
        chosen = rng.integers(0, 25, 25)
        taus.append(stats.kendalltau(x[chosen], y[chosen]).statistic)
    assert [low, high] == pytest.approx(np.percentile(taus, [2.5, 97.5]), abs=0.04)
    assert (low, high) != bootstrap_interval(x, y, seed=1, resamples=2000)


def test_degenerate_resamples_are_left_out():
    """Of three points a resample is often one of them three times."""
    assert bootstrap_interval(np.arange(3.0), np.arange(3.0), seed=0, resamples=500) == (1, 1)


def test_permutation_p_is_that_of_all_permutations():
    rng = np.random.default_rng(3)
    strata = np.array([0, 1, 0, 1, 0, 1, 0, 1])
    x = rng.random(8)
    y = x + 0.5 * rng.random(8)
    observed = abs(float(kendall_tau(x, y, pairs_of(strata))))
    shuffled = np.empty((24, 24, 8))
    for (i, even), (j, odd) in product(*(enumerate(permutations(y[k::2])) for k in range(2))):
        shuffled[i, j, ::2], shuffled[i, j, 1::2] = even, odd
    taus = np.abs(kendall_tau(np.broadcast_to(x, shuffled.shape), shuffled, pairs_of(strata)))
    exact = np.mean(taus >= observed - 1e-12)
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


# ---- Percentiles among random seeds

VALUES = (
    st.none() | st.integers(-3, 3).map(float) | st.floats(allow_nan=False, allow_infinity=False)
)


@given(VALUES, st.lists(VALUES, min_size=1, max_size=8), st.booleans())
def test_percentile_counts(value, others, higher):
    def beats(a, b):
        if a is None or b is None:
            return a is not None and b is None
        return a > b if higher else a < b

    worse = sum(beats(value, other) for other in others)
    equal = sum(value == other for other in others)
    expected = 100 * (worse + equal / 2) / len(others)
    assert percentile(value, others, higher_is_better=higher) == pytest.approx(expected)


def test_each_measure_in_its_direction():
    assert percentiles((2.0, 1.0), [(1.0, 2.0), (1.0, 3.0)]) == [100, 100]
    assert percentiles((1.0, None), [(1.0, None), (0.0, 3.0)]) == [75, 25]


def test_rank_sum():
    others = [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0), (4.0, 4.0)]  # all sums are equal
    assert rank_sum_percentile((5.0, 0.5), others) == 100
    assert rank_sum_percentile((0.0, 9.0), others) == 0
    assert rank_sum_percentile((2.5, 2.5), others) == 50
    assert rank_sum_percentile((2.5, 1.5), others) == 100
    assert rank_sum_percentile((3.5, None), others) == 0


def test_mean_of():
    assert mean_of([1.0, 2.0, 6.0]) == 3
    assert mean_of([1.0, None]) is None


def test_draw_seeds():
    drawn = draw_seeds(60, 3)
    assert len(set(drawn)) == 60
    assert all(arch.is_seed for arch in drawn)
    assert draw_seeds(20, 3) == drawn[:20]
    assert draw_seeds(20, 4) != drawn[:20]
    rng = np.random.default_rng(3)
    assert drawn[:3] == [SEARCH_SPACE.sample(rng) for _ in range(3)]
    with pytest.raises(InputError, match='at most 10000'):
        draw_seeds(10_001, 0)


@given(st.data())
def test_variance_shares_against_the_definition(data):
    seeds = draw_seeds(data.draw(st.integers(3, 12)), 0)
    positive = st.floats(1e-3, 1e3).map(lambda v: round(v, 3)).filter(bool)
    values = data.draw(
        st.lists(positive, min_size=len(seeds), max_size=len(seeds)).filter(lambda v: len({*v}) > 1)
    )
    logs = np.log(values)
    for k, share in enumerate(variance_shares(seeds, values).values()):
        choice = np.array([SEARCH_SPACE.encode(seed)[k] for seed in seeds])
        parts = [logs[choice == value] for value in set(choice)]
        between = sum(len(part) * (part.mean() - logs.mean()) ** 2 for part in parts)
        assert share == pytest.approx(between / ((logs - logs.mean()) ** 2).sum(), abs=1e-9)


def test_variance_shares_without_values():
    seeds = draw_seeds(50, 1)
    values = [seed.heads for seed in seeds]
    less = variance_shares(seeds[:40], values[:40])
    assert variance_shares(seeds, values[:40] + [None] * 10) == less
    assert less['H'] == pytest.approx(1)
    for none in ([None] * 50, [3.0] * 50, [3.0] + [None] * 49):
        assert set(variance_shares(seeds, none).values()) == {None}


# ---- Repeats


def test_groups():
    assert groups(4, 2, 0) == [list(group) for group in itertools.combinations(range(4), 2)]
    drawn = groups(20, 5, 1)
    assert len(drawn) == MAX_GROUPS
    assert all(len(set(group)) == 5 for group in drawn)
    assert drawn == groups(20, 5, 1)
    assert drawn != groups(20, 5, 2)


def test_variances_of_a_textbook_table():
    # Shrout and Fleiss 1979, table 2: six targets, four judges; ICC(3,1) = 0.71 and ICC(3,4) = 0.91.
    table = np.array(
        [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
    )
    between, within = variances(table)
    assert within == pytest.approx(1.02, abs=0.005)
    assert between / (between + within) == pytest.approx(0.71, abs=0.005)
    assert between / (between + within / 4) == pytest.approx(0.91, abs=0.005)
    assert variances(table + np.array([0, 7, -3, 1])) == pytest.approx((between, within))
    assert variances(np.random.default_rng(0).normal(size=(3, 2)))[0] >= 0


def test_repeat_table():
    rng = np.random.default_rng(1)
    values = np.exp(rng.normal(size=(40, 1)) + 0.5 * rng.normal(size=(40, 5)))
    values[7, 2] = math.nan
    table = repeat_table(values)
    assert (table['architectures'], table['left_out']) == (39, 1)
    rows = table['rows']
    assert [row['networks'] for row in rows] == [1, 2, 3, 4]
    whole = np.delete(values, 7, axis=0)
    taus = [
        stats.kendalltau(whole[:, k], np.delete(whole, k, axis=1).mean(1)).statistic
        for k in range(5)
    ]
    assert rows[0]['tau'] == pytest.approx(np.mean(taus))
    assert rows[0]['tau_std'] == pytest.approx(np.std(taus))
    # One network against four is four against one.
    assert rows[0]['tau'] == pytest.approx(rows[3]['tau'])
    for row in rows:
        ratio = row['networks'] * table['variance_ratio']
        assert row['reliability'] == pytest.approx(ratio / (ratio + 1))
    # What it predicts of the logarithms is what they do.
    found = np.corrcoef(np.log(whole).T)[np.triu_indices(5, 1)].mean()
    assert rows[0]['reliability'] == pytest.approx(found, abs=0.03)


def test_repeats_of_what_is_not_defined():
    table = repeat_table(np.array([[1.0, 2.0], [0.0, 1.0], [4.0, 4.5]]))
    assert table['variance_ratio'] is None
    assert table['rows'][0]['tau'] == 1
    for values in (np.full((3, 2), math.nan), np.ones((3, 2))):
        (row,) = repeat_table(values)['rows']
        assert row == {'networks': 1, 'tau': None, 'tau_std': None, 'reliability': None}
