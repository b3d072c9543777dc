"""Scaling on a cheap measure; the first step's candidates and the budget by hand."""

import json
from functools import partial

import pytest

from asvit_mm.arch import PRESETS, as_architecture
from asvit_mm.complexity import Score
from asvit_mm.cost import count_params
from asvit_mm.errors import InputError
from asvit_mm.search import AutoScaling, Measurement, next_sizes, rank_networks

from .toy import cost_measure

SEED = PRESETS['seed']
COUNT = partial(count_params, num_classes=10, img_size=32)


def scaling(measure=cost_measure, low=5_000_000, high=9_000_000):
    return AutoScaling(SEED, measure, COUNT, min_params=low, max_params=high)


def run(search):
    while search.step() is not None:
        pass
    return search.series


def test_candidates_of_the_first_step():
    sizes = next_sizes((1, 1, 1, 1), 8)
    # 8 x 1.05, 1.10, 1.15, 1.20 = 8.4, 8.8, 9.2, 9.6 are 8, 9, 9, 10.
    assert sizes == [
        (depths, width)
        for depths in [(2, 1, 1, 1), (1, 2, 1, 1), (1, 1, 2, 1), (1, 1, 1, 2)]
        for width in (8, 9, 10)
    ]


def test_measures_proxies_and_counts_real_networks():
    seen = []

    def measure(arch, *key):
        seen.append((arch, key))
        return cost_measure(arch)

    search = scaling(measure)
    member = search.step()
    assert [key for _, key in seen] == [(1, i) for i in range(12)]
    assert {arch.width for arch, _ in seen} == {8, 9, 10}
    assert [c['proxy'] for c in member['candidates']] == [str(arch) for arch, _ in seen]
    for candidate in member['candidates']:
        real, proxy = as_architecture(candidate['arch']), as_architecture(candidate['proxy'])
        assert (real.depths, real.width) == (proxy.depths, 4 * proxy.width)
        assert real.seed == SEED
        assert candidate['params'] == COUNT(real)
    ranking = rank_networks(
        [c['length_distortion'] for c in member['candidates']],
        [c['ntk_condition_number'] for c in member['candidates']],
    )
    assert member['arch'] == member['candidates'][ranking.best]['arch']
    assert search.start == SEED


def test_grows_one_layer_a_step_until_the_minimum():
    search = scaling()
    series = run(search)
    assert [sum(member['depths']) for member in series] == [5 + i for i in range(len(series))]
    assert all(member['params'] < 5_000_000 for member in series[:-1])
    assert 5_000_000 <= series[-1]['params'] <= 9_000_000
    assert search.reached
    assert 'reached' in search.stopped
    assert search.step() is None
    assert json.loads(json.dumps(series, allow_nan=False)) == series


def test_drops_what_is_too_large_and_stops_where_nothing_is_left():
    smallest = min(COUNT(SEED.with_size(d, 4 * w)) for d, w in next_sizes((1, 1, 1, 1), 8))
    search = scaling(low=smallest + 10**5, high=smallest + 10**5)
    member = search.step()
    assert member['dropped'] == 12 - len(member['candidates']) > 0
    run(search)
    assert not search.reached
    assert 'exceeds' in search.stopped


def test_says_that_width_has_an_end():
    search = scaling(low=10**9, high=10**10)
    run(search)
    assert search.stopped == 'stage 1 would grow wider than 1024 before 1,000,000,000 are reached'


@pytest.mark.parametrize(
    ('low', 'high', 'words'),
    [(9_000_000, 8_000_000, 'at most 8,000,000'), (1000, 100_000, 'give at least 2,')],
)
def test_impossible_budgets_are_refused_before_any_work(low, high, words):
    def measure(arch, *key):
        raise AssertionError('measured')

    with pytest.raises(InputError, match=words):
        scaling(measure, low, high)


def test_the_figure_that_a_refusal_names_is_enough():
    with pytest.raises(InputError) as error:
        scaling(low=1000, high=100_000)
    enough = int(str(error.value).split('give at least ')[1].replace(',', ''))
    assert scaling(low=1000, high=enough).step()['params'] == enough
    with pytest.raises(InputError):
        scaling(low=1000, high=enough - 1)


def test_a_candidate_without_kappa_loses_to_any_other():
    def measure(arch, step, i):
        return Measurement(Score(100.0 - i), Score(1.0) if i == 11 else Score.bad('singular'))

    member = scaling(measure).step()
    assert member['arch'] == member['candidates'][11]['arch']
    assert 'rank_kappa' not in member['candidates'][0]


def test_length_decides_where_no_candidate_has_a_kappa():
    def measure(arch, step, i):
        return Measurement(Score(float(i == 4)), Score.bad('singular'))

    member = scaling(measure).step()
    assert member['arch'] == member['candidates'][4]['arch']
    assert member['ntk_condition_number'] is None


def test_stops_where_nothing_can_be_measured():
    search = scaling(lambda arch, *key: Measurement(Score.bad('NaN'), Score.bad('NaN')))
    assert search.step() is None
    assert 'no candidate of step 1 could be measured' in search.stopped
