"""Scaling on a cheap measure; the first step's candidates and the budget by hand."""

import json
from dataclasses import replace
from functools import partial

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
    larger_networks,
    measure_proxies,
    rank_networks,
)
from asvit_mm.nas.scaling import proxy_of

from .toy import cost, cost_measure, measuring

SEED = PRESETS['seed']
COUNT = Budget(10, 32).params


def scaling(measure=cost_measure, low=5_000_000, high=9_000_000, macs=None, latency=None):
    measure = partial(measure_proxies, measure)
    memo = Memo(measure if latency is None else partial(latency.measure, measure))
    search = AutoScaling(SEED, Budget(10, 32, high, macs), min_params=low)
    search.step = partial(search.step, memo)
    return search


def run(search):
    while search.step() is not None:
        pass
    return search.series


def test_candidates_of_the_first_step():
    # 8 x 1.05, 1.10, 1.15, 1.20 = 8.4, 8.8, 9.2, 9.6 are 8, 9, 9, 10.
    assert larger_networks(SEED) == [
        SEED.with_size(depths, width)
        for depths in [(2, 1, 1, 1), (1, 2, 1, 1), (1, 1, 2, 1), (1, 1, 1, 2)]
        for width in (32, 36, 40)
    ]


def values(candidates):
    return [candidate.measurement.values for candidate in candidates]


def test_measures_proxies_and_counts_real_networks():
    seen = []

    def measure(arch):
        seen.append(arch)
        return cost(arch)

    search = scaling(measuring(measure))
    member = search.step()
    assert {arch.width for arch in seen} == {8, 9, 10}
    assert [proxy_of(candidate.arch) for candidate in member.candidates] == seen
    for candidate in member.candidates:
        assert candidate.arch.width == 4 * proxy_of(candidate.arch).width
        assert candidate.arch.seed == SEED
        assert candidate.params == COUNT(candidate.arch)
    best = rank_networks(values(member.candidates)).best
    assert member.chosen == member.candidates[best]


def test_grows_one_layer_a_step_until_the_minimum():
    search = scaling()
    series = run(search)
    archs = [member.chosen.arch for member in series]
    assert [sum(arch.depths) for arch in archs] == [5 + i for i in range(len(series))]
    assert all(COUNT(arch) < 5_000_000 for arch in archs[:-1])
    assert 5_000_000 <= COUNT(archs[-1]) <= 9_000_000
    assert search.reached
    assert 'reached' in search.stopped
    assert search.step() is None
    records = [member.to_record(candidates=True) for member in series]
    assert json.loads(json.dumps(records, allow_nan=False)) == records
    for record, member in zip(records, series, strict=True):
        ranks = [c['rank_length_distortion'] + c['rank_kappa'] for c in record['candidates']]
        assert record['rank_length_distortion'] + record['rank_kappa'] == min(ranks)
        assert as_architecture(record['arch']) == member.chosen.arch
        assert (record['depths'], record['width']) == (
            list(member.chosen.arch.depths),
            member.chosen.arch.width,
        )
        del record['candidates']
        assert member.to_record() == record


def test_drops_what_is_too_large_and_stops_where_nothing_is_left():
    smallest = min(map(COUNT, larger_networks(SEED)))
    search = scaling(low=smallest + 10**5, high=smallest + 10**5)
    member = search.step()
    assert member.dropped == 12 - len(member.candidates) > 0
    run(search)
    assert not search.reached
    assert 'exceeds' in search.stopped


def test_says_that_width_has_an_end():
    search = scaling(low=10**9, high=10**10)
    run(search)
    assert search.stopped == 'stage 1 would grow wider than 1024 before 1,000,000,000 are reached'


def test_without_a_minimum_it_grows_until_nothing_is_left():
    search = scaling(low=None, high=4_000_000)
    assert run(search)[-1].chosen.params <= 4_000_000
    assert search.stopped == 'every larger network exceeds 4,000,000 parameters'
    assert all(COUNT(arch) > 4_000_000 for arch in larger_networks(search.current))


def test_multiply_adds_end_it_too():
    search = scaling(low=10**9, high=None, macs=20 * 10**6)
    for member in run(search):
        for candidate in (member.chosen, *member.candidates):
            assert search.budget.macs(candidate.arch) <= 20 * 10**6
    assert 'exceeds 20,000,000 multiply-adds before' in search.stopped


def milliseconds(arch):
    """Narrow networks are slow for their size, so that the limit cuts across the candidates."""
    return sum(arch.depths) * 2 + 60 / arch.width + (arch.depths[1] * 7) % 3


def test_what_is_too_slow_is_not_measured_and_never_chosen():
    seen = []

    def measure(arch):
        seen.append(arch)
        return cost(arch)

    latency = Latency(milliseconds, 22.0)
    search = scaling(measuring(measure), low=None, high=90_000_000, latency=latency)
    reported = []
    while search.step(lambda _, candidate: reported.append(candidate)) is not None:
        pass
    assert search.stopped == (
        'every larger network exceeds 90,000,000 parameters or the limit on latency'
    )
    slow = [candidate for candidate in reported if milliseconds(candidate.arch) > 22]
    assert slow == [candidate for candidate in reported if candidate.measurement.refused]
    assert 0 < len(slow) < len(reported)
    assert set(seen) == {proxy_of(c.arch) for c in reported if c not in slow}
    for member in search.series:
        kept = [c for c in member.candidates if not c.measurement.refused]
        assert len(kept) + member.dropped in (8, 12, 16)
        best = rank_networks(values(kept)).best
        assert member.chosen == kept[best]


@pytest.mark.parametrize(
    ('low', 'high', 'words'),
    [
        (9_000_000, 8_000_000, 'at most 8,000,000'),
        (1000, 100_000, 'give at least 525,914'),
        (None, 100_000, 'give at least 525,914'),
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
    assert scaling(low=1000, high=enough).step().chosen.params == enough
    with pytest.raises(InputError):
        scaling(low=1000, high=enough - 1)


@pytest.mark.parametrize(('heads', 'narrowest'), [(16, 12), (32, 16), (64, 32)])
def test_a_small_budget_is_scaled_to_from_a_narrower_start(heads, narrowest):
    topology = replace(SEED, heads=heads)
    least = min(map(COUNT, larger_networks(topology.with_size((1, 1, 1, 1), narrowest))))
    search = AutoScaling(topology, Budget(10, 32, least))
    assert search.current.width == narrowest
    # No wider start has room for a step.
    for width in range(narrowest + 4, 33, 4):
        assert min(map(COUNT, larger_networks(topology.with_size((1, 1, 1, 1), width)))) > least
    with pytest.raises(InputError, match=f'give at least {least:,}'):
        AutoScaling(topology, Budget(10, 32, least - 1))


def test_a_candidate_without_kappa_loses_to_any_other():
    numbers = iter(range(12))

    def measure(arch):
        i = next(numbers)
        return Measurement(Score(100.0 - i), Score(1.0) if i == 11 else Score.bad('singular'))

    member = scaling(measuring(measure)).step()
    assert member.chosen == member.candidates[11]
    assert member.candidates[0].ranks is None


def test_length_decides_where_no_candidate_has_a_kappa():
    numbers = iter(range(12))

    def measure(arch):
        return Measurement(Score(float(next(numbers) == 4)), Score.bad('singular'))

    member = scaling(measuring(measure)).step()
    assert member.chosen == member.candidates[4]
    assert member.to_record()['ntk_condition_number'] is None


def test_stops_where_nothing_can_be_measured():
    search = scaling(measuring(lambda arch: Measurement(Score.bad('NaN'), Score.bad('NaN'))))
    assert search.step() is None
    assert 'no candidate of step 1 could be measured' in search.stopped
