import math

import numpy as np
import pytest

from asvit_mm.measures import Score


def test_mean_and_standard_deviation():
    values = [1.5, 3.0, 7.25]
    score = Score.mean([Score(value, seconds=value) for value in values])
    assert score == Score(np.mean(values))
    assert score.std == pytest.approx(np.std(values, ddof=1), rel=1e-14)
    assert score.seconds == pytest.approx(np.mean(values))
    assert Score.mean([Score(0.1)] * 3).std == 0
    assert math.isnan(Score.mean([Score(2.0)]).std)


def test_bad_if_one_network_is():
    bad = Score.mean([Score(1.0, seconds=1), Score(math.nan, False, 'why', seconds=3)])
    assert not bad.valid
    assert bad.reason == 'network 2 of 2: why'
    assert math.isnan(bad.value)
    assert math.isnan(bad.std)
    assert bad.seconds == 2


def test_equality_is_that_of_the_values():
    assert Score(2.0, std=math.nan, seconds=1) == Score(2.0, std=math.nan, seconds=2)
    assert Score(2.0) != Score(3.0)
