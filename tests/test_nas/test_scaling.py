"""Scaling on a cheap measure; the first step's candidates and the budget by hand."""

import json

import pytest

from asvit_mm.arch import PRESETS, as_architecture
from asvit_mm.errors import InputError
from asvit_mm.measures import Score
from asvit_mm.nas import (
    AutoScaling,
    Budget,
    Latency,
    Measurement,
    Memo,
    known_latencies,
    next_sizes,
    rank_networks,
)

from .toy import cost, cost_measure, measuring

SEED = PRESETS['seed']
COUNT = Budget(10, 32).params


def scaling(measure=cost_measure, low=5_000_000, high=9_000_000, macs=None, **kwargs):
    return AutoScaling(SEED, Memo(measure), Budget(10, 32, high, macs), min_params=low, **kwargs)


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

    def measure(arch):
        seen.append(arch)
        return cost(arch)

    search = scaling(measuring(measure))
    member = search.step()
    assert {arch.width for arch in seen} == {8, 9, 10}
    assert [c['proxy'] for c in member['candidates']] == [str(arch) for arch in seen]
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


def test_without_a_minimum_it_grows_until_nothing_is_left():
    search = scaling(low=None, high=4_000_000)
    assert run(search)[-1]['params'] <= 4_000_000
    assert search.stopped == 'every larger network exceeds 4,000,000 parameters'
    assert all(
        COUNT(search.real(size)) > 4_000_000
        for size in next_sizes(search.depths, search.proxy_width)
    )


@pytest.mark.parametrize('millions', [11, 20, 40])
def test_multiply_adds_end_it_too(millions):
    search = scaling(low=10**9, high=None, macs=millions * 10**6)
    series = run(search)
    budget = search.budget
    for member in series:
        arch = as_architecture(member['arch'])
        assert budget.macs(arch) <= millions * 10**6
        assert all(budget.fits(as_architecture(c['arch'])) for c in member['candidates'])
    assert f'exceeds {millions},000,000 multiply-adds before' in search.stopped


def milliseconds(arch):
    """Narrow networks are slow for their size, so that the limit cuts across the candidates."""
    return sum(arch.depths) * 2 + 60 / arch.width + (arch.depths[1] * 7) % 3


def test_what_is_too_slow_is_not_measured_and_never_chosen():
    seen = []

    def measure(arch):
        seen.append(arch)
        return cost(arch)

    search = scaling(measuring(measure), low=None, high=90_000_000)
    search.latency = Latency(milliseconds, 22.0)
    reported = []
    while search.step(reported.append) is not None:
        pass
    assert search.stopped == 'every larger network exceeds 90,000,000 parameters or 22 ms'
    slow = [record for record in reported if record['latency_ms'] > 22]
    assert 0 < len(slow) < len(reported)
    assert {record['bad'] for record in slow} == {
        f'latency {record["latency_ms"]:g} ms exceeds 22 ms' for record in slow
    }
    assert all(record['length_distortion'] is None for record in slow)
    fast = [record['proxy'] for record in reported if record not in slow]
    assert set(map(str, seen)) == set(fast)
    for member in search.series:
        assert milliseconds(as_architecture(member['arch'])) <= 22
        kept = [c for c in member['candidates'] if 'bad' not in c]
        assert len(kept) + member['dropped'] in (8, 12, 16)
        best = rank_networks(
            [c['length_distortion'] for c in kept], [c['ntk_condition_number'] for c in kept]
        ).best
        assert member['arch'] == kept[best]['arch']


def test_latencies_of_a_trace_are_not_measured_again():
    clocked = []

    def clock(arch):
        clocked.append(arch)
        return milliseconds(arch)

    def trace(known, measure=clock):
        search = scaling(low=None, high=4_000_000, latency=Latency(measure, 18.0, known))
        records = []
        while search.step(records.append) is not None:
            pass
        return records

    whole = trace({})
    assert len(clocked) == len(set(clocked)) == len({record['arch'] for record in whole})
    clocked.clear()
    assert trace(known_latencies(whole)) == whole
    assert not clocked
    # Another time for what the trace does not have, the trace's for what it has.
    other = trace(known_latencies(whole[:7]), lambda arch: milliseconds(arch) + 0.5)
    assert other[:7] == whole[:7]
    assert other[7]['latency_ms'] == whole[7]['latency_ms'] + 0.5


@pytest.mark.parametrize(
    ('low', 'high', 'words'),
    [
        (9_000_000, 8_000_000, 'at most 8,000,000'),
        (1000, 100_000, 'give at least 2,'),
        (None, 100_000, 'give at least 2,'),
    ],
)
def test_impossible_budgets_are_refused_before_any_work(low, high, words):
    def measure(arch):
        raise AssertionError('measured')

    with pytest.raises(InputError, match=words):
        scaling(measuring(measure), low, high)


def test_the_figure_that_a_refusal_names_is_enough():
    with pytest.raises(InputError) as error:
        scaling(low=1000, high=100_000)
    enough = int(str(error.value).split('give at least ')[1].replace(',', ''))
    assert scaling(low=1000, high=enough).step()['params'] == enough
    with pytest.raises(InputError):
        scaling(low=1000, high=enough - 1)


def test_a_candidate_without_kappa_loses_to_any_other():
    numbers = iter(range(12))

    def measure(arch):
        i = next(numbers)
        return Measurement(Score(100.0 - i), Score(1.0) if i == 11 else Score.bad('singular'))

    member = scaling(measuring(measure)).step()
    assert member['arch'] == member['candidates'][11]['arch']
    assert 'rank_kappa' not in member['candidates'][0]


def test_length_decides_where_no_candidate_has_a_kappa():
    numbers = iter(range(12))

    def measure(arch):
        return Measurement(Score(float(next(numbers) == 4)), Score.bad('singular'))

    member = scaling(measuring(measure)).step()
    assert member['arch'] == member['candidates'][4]['arch']
    assert member['ntk_condition_number'] is None


def test_stops_where_nothing_can_be_measured():
    search = scaling(measuring(lambda arch: Measurement(Score.bad('NaN'), Score.bad('NaN'))))
    assert search.step() is None
    assert 'no candidate of step 1 could be measured' in search.stopped
