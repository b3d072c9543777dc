"""Repeats: splits counted, agreement and variances of tables whose answer is known."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asvit_mm.analysis.repeats import MAX_SPLITS, rank_agreement, repeat_table, splits, variances


@given(st.integers(1, 5), st.integers(1, 3), st.integers(1, 3))
def test_splits(networks, size, other):
    networks = max(networks, size + other)
    found = splits(networks, size, other)
    number = math.comb(networks, size) * math.comb(networks - size, other)
    assert len(found) == (number // 2 if size == other else number)
    pairs = [frozenset([frozenset(a), frozenset(b)]) for a, b in found]
    assert len(set(pairs)) == len(found)
    for first, second in found:
        assert (len(first), len(second)) == (size, other)
        assert not set(first) & set(second)
        assert set(first) | set(second) <= set(range(networks))


def test_too_many_splits_are_drawn():
    found = splits(20, 5, 15, seed=1)
    assert len(found) == MAX_SPLITS
    assert all(sorted(a + b) == list(range(20)) for a, b in found)
    assert found == splits(20, 5, 15, seed=1)
    assert found != splits(20, 5, 15, seed=2)


def test_agreement():
    alike = np.outer([1.0, 3.0, 2.0, 5.0], [1.0, 1.1, 0.9])
    assert rank_agreement(alike, splits(3, 1, 2)) == {
        'tau': pytest.approx(1), 'tau_std': pytest.approx(0),
        'rho': pytest.approx(1), 'rho_std': pytest.approx(0), 'splits': 3,
    }  # fmt: skip
    opposite = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]])
    assert rank_agreement(opposite, splits(2, 1, 1))['tau'] == pytest.approx(-1)
    constant = np.ones((3, 2))
    assert rank_agreement(constant, splits(2, 1, 1))['tau'] is None


def test_agreement_is_the_mean_over_the_splits():
    values = np.random.default_rng(0).normal(size=(6, 3))
    pairs = list(itertools.combinations(range(6), 2))

    def tau(x, y):
        return np.mean([np.sign(x[i] - x[j]) * np.sign(y[i] - y[j]) for i, j in pairs])

    taus = [tau(values[:, a], np.delete(values, a, axis=1).mean(1)) for a in range(3)]
    found = rank_agreement(values, splits(3, 1, 2))
    assert found['tau'] == pytest.approx(np.mean(taus))
    assert found['tau_std'] == pytest.approx(np.std(taus))


def test_variances_of_a_textbook_table():
    # Shrout and Fleiss 1979, table 2: six targets, four judges; ICC(3,1) = 0.71 and ICC(3,4) = 0.91.
    table = np.array(
        [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
    )
    between, within = variances(table)
    assert within == pytest.approx(1.02, abs=0.005)
    assert between / (between + within) == pytest.approx(0.71, abs=0.005)
    assert between / (between + within / 4) == pytest.approx(0.91, abs=0.005)
    shifted = variances(table + np.array([0, 7, -3, 1]))
    assert shifted == pytest.approx((between, within))


def test_variances_of_a_simulation():
    rng = np.random.default_rng(0)
    values = 3 * rng.normal(size=(4000, 1)) + 2 * rng.normal(size=(4000, 5)) + rng.normal(size=5)
    assert variances(values) == pytest.approx((9, 4), rel=0.07)
    assert variances(rng.normal(size=(3, 2)))[0] >= 0


def test_table():
    rng = np.random.default_rng(1)
    logs = rng.normal(size=(40, 1)) + 0.5 * rng.normal(size=(40, 5))
    values = np.exp(logs)
    values[7, 2] = math.nan
    table = repeat_table(values)
    assert (table['architectures'], table['left_out']) == (39, 1)
    ratio = table['variance_ratio']
    assert ratio == pytest.approx((table['between_std'] / table['within_std']) ** 2)
    rows = table['rows']
    assert [row['networks'] for row in rows] == [1, 2, 3, 4, 5]
    assert [row['rest'] and row['rest']['splits'] for row in rows] == [5, 10, 10, 5, None]
    assert [row['as_many'] and row['as_many']['splits'] for row in rows] == [10, 15] + [None] * 3
    assert rows[0]['rest']['tau'] == pytest.approx(rows[3]['rest']['tau'])
    assert rows[1]['as_many']['rho'] > rows[0]['as_many']['rho']
    for row in rows:
        r = row['networks']
        assert row['reliability'] == pytest.approx(r * ratio / (r * ratio + 1))
    # What it predicts of the logarithms is what they do.
    found = np.corrcoef(np.log(np.delete(values, 7, axis=0)).T)[np.triu_indices(5, 1)].mean()
    assert rows[0]['reliability'] == pytest.approx(found, abs=0.03)


def test_values_without_a_logarithm():
    table = repeat_table(np.array([[1.0, 2.0], [0.0, 1.0], [4.0, 4.5]]))
    assert table['architectures'] == 3
    assert table['variance_ratio'] > 0
    assert repeat_table(np.zeros((3, 2)))['variance_ratio'] is None
