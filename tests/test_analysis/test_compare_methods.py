"""Scores of made-up searches, whose right answer is known."""

import json

from asvit_mm.analysis.compare_methods import best_so_far, result_pair, score, summarise
from asvit_mm.analysis.plots import plot_methods
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
    assert best_so_far(trace, OTHERS) == [0, 50, 50, 100]


def test_a_result_is_judged_by_the_other_seeds():
    record = {'measured': [fields(100.0, 0.0), fields(2.0, 8.0), fields(4.0, 6.0)]}
    assert result_pair(record, 0) == (3.0, 7.0)
    assert result_pair({'measured': [fields(1.0, 1.0), fields(1.0, None)]}, 0) == (1.0, None)


SETTINGS = MethodsSettings(
    work_dir='run', seeds=2, steps=4, reference=4, batch_size=4, seed=7, device='cpu'
)
# The second seed's batch makes every kappa ten times as large, and every L^E half as large.
RECORDS = [
    {'name': f'arch | {i}', 'measured': [fields(a, b), fields(a / 2, 10 * b)]}
    for i, (a, b) in enumerate([*OTHERS, (9.0, 1.0)])
]


def search(method, seed, arch, trace):
    return {'method': method, 'seed': seed, 'arch': arch, 'trace': trace}


SEARCHES = [
    search('reinforce', 7, 'arch | 4', [step(2.5, 7.5), step(2.5, 7.5, True), step(9.0, 1.0)] * 2),
    search('random', 7, 'arch | 0', [step(0.0, 10.0)] * 4),
    search('reinforce', 8, 'arch | 4', [step(1.25, 75.0)] * 4),
    search('random', 8, 'arch | 3', [step(9.0, 1.0)] * 3),
]


def test_summary_and_picture(tmp_path):
    found = summarise(SETTINGS, RECORDS[:4], RECORDS, SEARCHES)
    assert [(one['method'], one['seed']) for one in found] == [
        ('reinforce', 7), ('random', 7), ('reinforce', 8), ('random', 8),
    ]  # fmt: skip
    first, random, second, other = found
    assert first['best'] == [50, 100, 100, 100]
    assert (first['values'], second['values']) == ((4.5, 10), (9, 1))
    # Scored by the values of its own seed's images, or it would look bad.
    assert second['best'] == [50] * 4
    assert first['result'] == second['result'] == 100
    # Random seeds themselves: ranked among the three others.
    assert [random['result'], other['result']] == [0, 100]
    json.dumps(found, allow_nan=False)
    plot_methods(found, tmp_path / 'a.png')
    assert is_picture(tmp_path / 'a.png')
