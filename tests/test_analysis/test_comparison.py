"""Scores of made-up searches, whose right answer is known."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asvit_mm.analysis import comparison_report, summarise_comparison
from asvit_mm.analysis.comparison import _improvements, at, best_so_far, result_pair, score, unfold
from asvit_mm.analysis.standing_plots import plot_comparison

from ..test_report.test_plots import is_picture


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
    assert best_so_far(trace, OTHERS) == [0, 50, 50, 100]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20))
def test_unfolding_gives_the_curve_back(values):
    curve = [float(max(values[: i + 1])) for i in range(len(values))]
    assert unfold(_improvements(curve), len(curve)) == curve
    assert at(curve, len(curve) + 5) == curve[-1]
    assert at(curve, 1) == curve[0]


def test_a_result_is_judged_by_the_other_seeds():
    record = {'measured': [fields(100.0, 0.0), fields(2.0, 8.0), fields(4.0, 6.0)]}
    assert result_pair(record, 0) == (3.0, 7.0)
    assert result_pair({'measured': [fields(1.0, 1.0), fields(1.0, None)]}, 0) == (1.0, None)


SETTINGS = {
    'seeds': 2, 'steps': 4, 'reference': 4, 'methods': ['reinforce', 'random'], 'data': 'digits',
    'img_size': 32, 'batch_size': 4, 'repeat': 1, 'seed': 7, 'threads': 1, 'device': 'cpu',
}  # fmt: skip
# The second seed's batch makes every kappa ten times as large, and every L^E half as large.
RECORDS = [
    {'index': i, 'arch': f'arch | {i}', 'measured': [fields(a, b), fields(a / 2, 10 * b)]}
    for i, (a, b) in enumerate([*OTHERS, (9.0, 1.0)])
]
STUDY = {'settings': SETTINGS, 'versions': {}, 'architectures': []}


def search(method, seed, arch, trace):
    return {'method': method, 'seed': seed, 'arch': arch, 'trace': trace, 'seconds': 10.0 + seed}


SEARCHES = [
    search('reinforce', 7, 'arch | 4', [step(2.5, 7.5), step(2.5, 7.5, True), step(9.0, 1.0)] * 2),
    search('random', 7, 'arch | 0', [step(0.0, 10.0)] * 4),
    search('reinforce', 8, 'arch | 4', [step(1.25, 75.0)] * 4),
    search('random', 8, 'arch | 3', [step(9.0, 1.0)] * 4),
]


@pytest.fixture(scope='module')
def summary():
    return summarise_comparison(STUDY, RECORDS, SEARCHES)


def test_summary(summary):
    assert summary['marks'] == [1, 2, 4]
    reinforce, random = summary['methods']
    assert (reinforce['method'], random['method']) == ('reinforce', 'random')
    first, second = reinforce['searches']
    assert (first['measured'], first['best_at_marks']) == (4, [50, 100, 100])
    assert first['improvements'] == [[1, 50], [2, 100]]
    # Scored by the values of its own seed's images, or it would look bad.
    assert second['best_at_marks'] == [50, 50, 50]
    assert first['length_distortion'] == {'value': 4.5, 'percentile': 100}
    assert second['length_distortion'] == {'value': 9.0, 'percentile': 100}
    assert reinforce['mean']['score'] == 100
    assert reinforce['std']['score'] == 0
    # Random seeds themselves: ranked among the three others.
    assert [one['score'] for one in random['searches']] == [0, 100]
    assert random['std']['score'] == pytest.approx(100 / 2**0.5)
    assert random['mean']['seconds'] == 17.5
    assert random['mean']['best_at_marks'] == [50, 50, 50]
    json.dumps(summary, allow_nan=False)


def test_report(summary):
    page = comparison_report(summary, 'python tools/analysis_tools/compare_methods.py')
    assert '| method | measured | best of 1 | best of 2 | best of 4 | result |' in page
    assert (
        '| random | 4 ± 0 | 50.00 ± 70.71 | 50.00 ± 70.71 | 50.00 ± 70.71 | 50.0 ± 70.7 |' in page
    )
    assert '| reinforce | 8 | `arch \\| 4` | 100.0 | 9 | 1 |' in page
    assert 'nan' not in page


def test_picture(summary, tmp_path):
    first, again = (plot_comparison(summary, tmp_path / f'{i}.png') for i in range(2))
    assert is_picture(first)
    assert first.read_bytes() == again.read_bytes()
