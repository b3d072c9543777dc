import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from asvit_mm.analysis.statistics import (
    draw_seeds,
    kendall_tau,
    mean_of,
    percentiles,
    repeat_noise,
)
from asvit_mm.arch import SEARCH_SPACE
from asvit_mm.errors import InputError


def test_tau_and_its_interval():
    rng = np.random.default_rng(2)
    x = rng.random(25)
    y = x + rng.random(25)
    found = kendall_tau(x, y, seed=0)
    assert found == kendall_tau(x, y, seed=0)
    assert found['tau'] == pytest.approx(stats.kendalltau(x, y).statistic)
    taus = []
    for _ in range(1000):
        chosen = rng.integers(0, 25, 25)
        taus.append(stats.kendalltau(x[chosen], y[chosen]).statistic)
    expected = np.percentile(taus, [2.5, 97.5])
    assert [found['low'], found['high']] == pytest.approx(expected, abs=0.05)
    assert found['low'] != kendall_tau(x, y, seed=1)['low']


@pytest.mark.parametrize(
    ('values', 'target'), [([], []), ([1.0], [2.0]), ([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [5, 5, 5])]
)
def test_undefined(values, target):
    assert set(kendall_tau(values, target, 0).values()) == {None}


def test_resamples_of_one_point_have_no_tau_so_there_is_no_interval():
    assert kendall_tau([1, 2, 3], [1, 3, 2], 0) == {
        'tau': pytest.approx(1 / 3), 'low': None, 'high': None,
    }  # fmt: skip


VALUES = (
    st.none() | st.integers(-3, 3).map(float) | st.floats(allow_nan=False, allow_infinity=False)
)


@given(VALUES, st.lists(VALUES, min_size=1, max_size=8))
def test_percentiles_count(value, others):
    for column, higher in enumerate((True, False)):

        def beats(a, b, higher=higher):
            if a is None or b is None:
                return a is not None and b is None
            return a > b if higher else a < b

        worse = sum(beats(value, other) for other in others)
        equal = sum(value == other for other in others)
        found = percentiles((value, value), [(other, other) for other in others])[column]
        assert found == pytest.approx(100 * (worse + equal / 2) / len(others))


def test_rank_sum():
    others = [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0), (4.0, 4.0)]  # all sums are equal
    assert percentiles((5.0, 0.5), others) == [100, 100, 100]
    assert percentiles((2.5, 2.5), others) == [50, 50, 50]
    assert percentiles((2.5, 1.5), others) == [50, 75, 100]
    assert percentiles((3.5, None), others) == [75, 0, 0]


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


def test_noise_of_a_textbook_table():
    # Shrout and Fleiss 1979, table 2: six targets, four judges; ICC(3,1) = 0.71 and ICC(3,4) = 0.91.
    table = np.array(
        [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
    )
    noise = repeat_noise(np.exp(table))
    assert noise['within'] ** 2 == pytest.approx(1.02, abs=0.005)
    assert noise['reliability'][::3] == pytest.approx([0.71, 0.91], abs=0.005)
    assert noise['architectures'] == 6
    # What a network adds to all alike is no noise; an architecture without a value is left out.
    shifted = np.exp(np.vstack([table + np.array([0, 7, -3, 1]), [1, math.nan, 1, 1]]))
    again = repeat_noise(shifted)
    assert again['architectures'] == 6
    assert again['reliability'] == pytest.approx(noise['reliability'])


def test_noise_of_what_is_not_defined():
    nothing = repeat_noise(np.full((3, 2), math.nan))
    assert nothing == {'architectures': 0, 'between': None, 'within': None, 'reliability': []}
    assert repeat_noise(np.ones((3, 2)))['reliability'] == []
    assert repeat_noise(np.array([[1.0], [2.0]]))['within'] is None
