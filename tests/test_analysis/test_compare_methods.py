"""Scores of made-up searches, whose right answer is known."""

import json

import pytest

from asvit_mm.analysis.compare_methods import (
    best_so_far,
    report_text,
    result_pair,
    score,
    summarise,
)
from asvit_mm.analysis.plots import best_curves, plot_methods
from asvit_mm.analysis.settings import MethodsSettings

from .pictures import is_picture


def fields(length, kappa):
    return {'length_distortion': length, 'ntk_condition_number': kappa}


def step(length, kappa, recalled=False):
    return {**fields(length, kappa), 'recalled': recalled}


OTHERS = [(1.0, 9.0), (2.0, 8.0), (3.0, 7.0), (4.0, 6.0)]


def test_score():
    assert score((9.0, 1.0), OTHERS) == 100
    assert score((0.0, None), OTHERS) == 0
    assert score((9.0, None), OTHERS) == 50
    assert score((2.5, 7.5), OTHERS) == 50
    assert score((4.0, 9.5), OTHERS) == (87.5 + 0) / 2


def test_best_so_far_counts_measurements_only():
    trace = [step(0.0, 10.0), step(2.5, 7.5), step(2.5, 7.5, recalled=True), step(0.5, 9.5)]
    trace.append(step(9.0, 1.0))
    assert best_so_far(trace, OTHERS).tolist() == [0, 50, 50, 100]


def test_a_result_is_judged_by_the_other_seeds():
    record = {'measured': [fields(100.0, 0.0), fields(2.0, 8.0), fields(4.0, 6.0)]}
    assert result_pair(record, 0) == (3.0, 7.0)
    assert result_pair({'measured': [fields(1.0, 1.0), fields(1.0, None)]}, 0) == (1.0, None)


SETTINGS = MethodsSettings(
    work_dir='run', seeds=2, steps=4, reference=4, batch_size=4, seed=7, device='cpu'
)
# The second seed's batch makes every kappa ten times as large, and every L^E half as large.
RECORDS = [
    {'arch': f'arch | {i}', 'measured': [fields(a, b), fields(a / 2, 10 * b)]}
    for i, (a, b) in enumerate([*OTHERS, (9.0, 1.0)])
]


def search(method, seed, arch, trace):
    return {'method': method, 'seed': seed, 'arch': arch, 'trace': trace, 'seconds': 10.0 + seed}


SEARCHES = [
    search('reinforce', 7, 'arch | 4', [step(2.5, 7.5), step(2.5, 7.5, True), step(9.0, 1.0)] * 2),
    search('random', 7, 'arch | 0', [step(0.0, 10.0)] * 4),
    search('reinforce', 8, 'arch | 4', [step(1.25, 75.0)] * 4),
    search('random', 8, 'arch | 3', [step(9.0, 1.0)] * 3),
]


@pytest.fixture(scope='module')
def methods():
    return summarise(SETTINGS, RECORDS, SEARCHES)


def test_summary(methods):
    reinforce, random = methods
    assert (reinforce['method'], random['method']) == ('reinforce', 'random')
    first, second = reinforce['searches']
    assert first['figures'] == {
        'measured': 4, 'best of 1': 50, 'best of 2': 100, 'best of 4': 100, 'result': 100,
        'its L^E': 100, 'its kappa': 100, 'seconds': 17,
    }  # fmt: skip
    assert first['improvements'] == [[1, 50], [2, 100]]
    assert (first['length_distortion'], second['length_distortion']) == (4.5, 9.0)
    # Scored by the values of its own seed's images, or it would look bad.
    assert second['figures']['best of 4'] == 50
    assert reinforce['mean']['result'] == 100
    assert reinforce['std']['result'] == 0
    # Random seeds themselves: ranked among the three others.
    assert [one['figures']['result'] for one in random['searches']] == [0, 100]
    assert random['std']['result'] == pytest.approx(100 / 2**0.5)
    assert random['mean']['best of 4'] == 50
    json.dumps(methods, allow_nan=False)


def test_report(methods):
    page = report_text(SETTINGS, methods)
    assert '| method | measured | best of 1 | best of 2 | best of 4 | result |' in page
    figures = '50.00 ± 70.71 | 50.00 ± 70.71 | 50.00 ± 70.71 | 50.0 ± 70.7 |'
    assert f'| random | 4 ± 1 | {figures}' in page
    assert '| reinforce | 8 | `arch \\| 4` | 100.0 | 9 | 1 |' in page
    assert 'nan' not in page


def test_picture(methods, tmp_path):
    assert best_curves(methods[0]['searches']).tolist() == [[50, 100, 100, 100], [50] * 4]
    assert best_curves(methods[1]['searches']).tolist() == [[0] * 4, [100] * 4]
    for i in range(2):
        plot_methods(methods, tmp_path / f'{i}.png')
    assert is_picture(tmp_path / '0.png')
    assert (tmp_path / '0.png').read_bytes() == (tmp_path / '1.png').read_bytes()
