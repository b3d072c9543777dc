"""Rewards and ranks against slow, obvious twins and hand-worked cases."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asvit_mm.nas.rewards import (
    MovingAverage,
    dense_ranks,
    fill_with_worst,
    metric_change,
    rank_networks,
    relative_range,
    reward,
)

VALUES = st.floats(0, 1e6).map(lambda v: round(v, 2))
FEW = st.integers(0, 4).map(float)


def test_change_by_hand():
    assert metric_change([]) == 0
    assert metric_change([3.0]) == 0
    assert metric_change([1.0, 5.0, 3.0]) == pytest.approx(-2 / 4, rel=1e-6)
    assert metric_change([2.0, 2.0]) == 0


def test_change_forgets_what_is_older_than_the_window():
    old, recent = [1000.0], [float(i) for i in range(20)]
    assert metric_change(old + recent) == pytest.approx(1 / 19, rel=1e-6)
    assert metric_change(old + recent[:-1]) == pytest.approx(1 / 1000, rel=1e-6)


@given(st.lists(VALUES, min_size=2, max_size=50), st.integers(2, 25))
def test_change_is_a_share_of_the_range(values, window):
    change = metric_change(values, window)
    assert -1 <= change <= 1
    assert math.copysign(1, change) == math.copysign(1, values[-1] - values[-2]) or change == 0
    assert change == metric_change(values[-window:], window)


@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=40))
def test_reward_is_the_change_of_one_less_that_of_the_other(pairs):
    lengths, kappas = map(list, zip(*pairs, strict=True))

    def change(values):
        last = values[-20:]
        return (values[-1] - values[-2]) / (max(last) - min(last) + 1e-6)

    expected = -change(kappas) + change(lengths) if len(pairs) > 1 else 0
    assert reward(lengths, kappas) == pytest.approx(expected, abs=1e-12)


def test_reward_prefers_longer_curves_and_smaller_condition_numbers():
    assert reward([1.0, 2.0], [5.0, 4.0]) == pytest.approx(2, abs=1e-5)
    assert reward([2.0, 1.0], [4.0, 5.0]) == pytest.approx(-2, abs=1e-5)


def test_a_bad_network_takes_the_worst_seen_so_far():
    assert fill_with_worst([3.0, None, 9.0, None], larger_is_better=False) == [3.0, 9.0, 9.0, 9.0]
    assert fill_with_worst([3.0, None, 9.0], larger_is_better=True) == [3.0, 3.0, 9.0]
    assert fill_with_worst([None, None], larger_is_better=False) == [0.0, 0.0]
    # 2 -> 6 (the worst) on a range of 4, and back again.
    assert reward([1.0] * 3, [6.0, 2.0, None]) == pytest.approx(-1, abs=1e-5)
    assert reward([1.0] * 4, [6.0, 2.0, None, 2.0]) == pytest.approx(1, abs=1e-5)


@given(st.lists(st.none() | VALUES, min_size=1, max_size=30))
def test_bad_networks_never_make_a_reward_infinite(kappas):
    assert -1 <= reward([1.0] * len(kappas), kappas) <= 1


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=60), st.floats(0.1, 0.95))
def test_moving_average_is_the_weighted_mean(values, momentum):
    average = MovingAverage(momentum)
    for value in values:
        result = average.update(value)
    weights = [momentum**age for age in range(len(values))][::-1]
    mean = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
    assert result == pytest.approx(mean, abs=1e-9)


@given(st.lists(FEW, min_size=1, max_size=12), st.booleans())
def test_dense_ranks(values, larger_is_better):
    ranks = dense_ranks(values, larger_is_better)
    for value, rank in zip(values, ranks, strict=True):
        better = {v for v in values if (v > value if larger_is_better else v < value)}
        assert rank == len(better)


def slow_best(lengths, kappas):
    """Section 4 read aloud, one network against another."""
    n = len(lengths)

    def total(i):
        return len({v for v in lengths if v > lengths[i]}) + len(
            {v for v in kappas if v < kappas[i]}
        )

    tied = [i for i in range(n) if all(total(i) <= total(j) for j in range(n))]
    spread = [(max(m) - min(m)) / max(m) if max(m) else 0 for m in (lengths, kappas)]
    if spread[0] > spread[1]:
        return max(tied, key=lambda i: (lengths[i], -i))
    return min(tied, key=lambda i: (kappas[i], i))


@given(st.lists(st.tuples(FEW, FEW), min_size=1, max_size=10))
def test_best_network_as_the_slow_twin_has_it(pairs):
    lengths, kappas = map(list, zip(*pairs, strict=True))
    assert rank_networks(lengths, kappas).best == slow_best(lengths, kappas)


def test_tie_break_looks_at_all_tied_in_the_direction_of_the_measure():
    # Rank sums 2, 2, 2. L^E varies more (2/3 of its maximum, kappa by 2/12): the longest wins.
    ranking = rank_networks([1.0, 2.0, 3.0], [10.0, 11.0, 12.0])
    assert (ranking.best, ranking.tie_break) == (2, 'length_distortion')
    # Kappa varies more: the smallest wins.
    ranking = rank_networks([12.0, 11.0, 10.0], [3.0, 2.0, 1.0])
    assert (ranking.best, ranking.tie_break) == (2, 'kappa')
    # A clear winner needs none.
    assert rank_networks([2.0, 1.0], [1.0, 2.0]).tie_break is None


def test_relative_range():
    assert relative_range([2.0, 4.0]) == 0.5
    assert relative_range([0.0, 0.0]) == 0
