"""The statistics against scipy, and the verdicts on records that are made up, so that the answer is known."""

import json

import numpy as np
import pytest
from scipy.stats import kendalltau

from asvit_mm.analysis.referee.judge import Resamples, interval, judge, plot, residuals, ridge
from asvit_mm.analysis.statistics import RESAMPLES

from ..pictures import is_picture


def test_tau_is_that_of_the_resamples():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 6, (2, 25)).astype(float)
    drawn = Resamples(25, seed=1)
    taus = drawn.taus(x, y)
    assert len(taus) == RESAMPLES + 1
    for weights, tau in zip(drawn.weights[:20], taus, strict=False):
        chosen = np.repeat(np.arange(25), weights.astype(int))
        assert tau == pytest.approx(kendalltau(x[chosen], y[chosen]).statistic)
    found = interval(taus)
    assert found['low'] < found['tau'] < found['high']


def test_cells():
    """Between the cells y falls with x, within each it grows."""
    cells = np.repeat(np.arange(3), 10)
    x = np.tile(np.arange(10.0), 3) + 100 * cells
    y = np.tile(np.arange(10.0), 3) - 100 * cells
    drawn = Resamples(30, seed=0)
    assert drawn.taus(x, y)[0] < 0
    assert drawn.taus(x, y, cells)[0] == pytest.approx(1)
    assert np.isnan(drawn.taus(x, y, np.arange(30))).all()


def test_residuals_and_ridge():
    sizes = np.exp(np.linspace(1, 3, 20))
    other = np.random.default_rng(0).uniform(1, 2, 20)
    np.testing.assert_allclose(residuals(sizes**2, sizes), 0, atol=1e-12)
    np.testing.assert_allclose(residuals(sizes**2 / other, sizes, other), 0, atol=1e-12)
    assert kendalltau(residuals(other, sizes), other).statistic > 0.8
    signs = np.tile([1.0, -1.0], 10)
    target = np.log(sizes) + signs
    fit = np.arange(0, 20) < 14
    predicted = ridge(np.stack([sizes, signs, np.ones(20)], 1), target, fit)
    assert kendalltau(predicted[14:], target[14:]).statistic > 0.8


def records(count=80):
    """Accuracy is the size and a quality; synflow measures the quality, kappa (lower) the size."""
    rng = np.random.default_rng(0)
    size, quality = rng.normal(size=(2, count))
    accuracies = size + 0.5 * quality
    made = []
    for i in range(count):
        networks = [
            {
                'values': {
                    'synflow': float(np.exp(quality[i] + 0.01 * repeat)),
                    'ntk_condition_number': float(np.exp(-size[i])),
                    'length_distortion': float(np.exp(0.01 * quality[i])),
                    'naswot': None if i == 7 else float(rng.normal()),
                },
                'noise': {'naswot': float(rng.normal())} if i < 9 else {},
                'seconds': dict.fromkeys(
                    ('ntk_condition_number', 'length_distortion', 'naswot'), 2.0
                )
                | {'synflow': 1.0},
            }
            for repeat in range(2 if i < 9 else 1)
        ]
        baselines = {'params': float(np.exp(size[i])), 'depth': float(i % 3), 'width': 8.0}
        made.append({'place': i, 'baselines': baselines, 'networks': networks})
    return made, accuracies


def test_verdicts(tmp_path):
    found = judge(*records())
    json.dumps(found, allow_nan=False)
    assert found['best'] == 'params'
    rows = {row['name']: row for row in found['rows']}
    assert rows['params']['equal_size']['tau'] is None
    assert rows['synflow']['equal_size_held_out']['low'] > 0.5  # beyond size
    assert rows['ntk_condition_number']['all'] == pytest.approx(rows['params']['all'])
    assert rows['ntk_condition_number']['to_baseline']['tau'] == pytest.approx(0)
    assert rows['naswot']['equal_size']['low'] < 0 < rows['naswot']['equal_size']['high']
    assert found['gain']['low'] > 0
    assert found['halves'] == {'tuning': 40, 'held_out': 40}
    assert found['chosen'] in ('synflow', 'length_distortion')
    # The rank sum knows size and quality; without the size, it is no better than the quality alone.
    assert rows['reward']['all']['low'] > rows['synflow']['all']['high'] - 0.2
    assert rows['reward']['to_reward']['tau'] == 0
    assert rows['synflow']['to_reward']['tau'] > 0
    assert rows['synflow']['reliability'] > 0.99
    assert rows['synflow']['seconds'] == 1
    assert rows['naswot']['noise'] is not None
    plot(found['rows'], tmp_path / 'a.png')
    assert is_picture(tmp_path / 'a.png')
