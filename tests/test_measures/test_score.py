import math

import numpy as np
import pytest

from asvit_mm.measures import Score


def test_mean_and_deviation():
    values = [1.5, 3.0, 7.25]
    score = Score.mean([Score(value) for value in values])
    assert score == Score(np.mean(values))
    assert score.std == pytest.approx(np.std(values, ddof=1), rel=1e-14)


def test_equal_values_have_no_deviation():
    assert Score.mean([Score(0.1)] * 3).std == 0


def test_one_network_has_no_deviation():
    assert math.isnan(Score.mean([Score(2.0)]).std)


def test_bad_as_soon_as_one_network_is():
    bad = Score.mean([Score(1.0), Score.bad('why')])
    assert not bad.valid
    assert bad.reason == 'network 2 of 2: why'
    assert math.isnan(bad.value)
    assert math.isnan(bad.std)


def test_equality_is_that_of_the_values():
    assert Score(2.0, std=float('nan')) == Score(2.0, std=float('nan'))
    assert Score(2.0) != Score(3.0)
