"""The clock on real classifiers; the limit, its refusals and what is recalled."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from asvit_mm.arch import PRESETS, SEARCH_SPACE, as_architecture
from asvit_mm.cost import count_params
from asvit_mm.errors import InputError
from asvit_mm.nas import (
    METHODS,
    Clock,
    Latency,
    Measurement,
    Memo,
    result_of,
)

from .toy import distance_measure, records_of


def milliseconds(arch):
    return arch.heads / 8 + 2 * arch.splits[0]


def test_the_clock_runs_the_classifier_that_configs_train():
    model = Clock(7, 48).classifier(PRESETS['small'])
    assert not model.training
    assert sum(p.numel() for p in model.parameters()) == count_params(
        PRESETS['small'], 7, img_size=48
    )
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 48, 48)).shape == (1, 7)


def test_the_clock_tells_large_from_small_and_leaves_no_trace():
    clock, state, threads = Clock(10, 32), torch.get_rng_state(), torch.get_num_threads()
    small, large = (clock(PRESETS[name]) for name in ('seed', 'small'))
    assert 0 < small < large < 60_000
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize('limit', [0, -3.0, math.nan, math.inf])
def test_no_limit(limit):
    with pytest.raises(InputError, match='give milliseconds'):
        Latency(milliseconds, limit)


def test_every_network_is_timed_once():
    numbers = iter([3.00004, 5.0])
    latency = Latency(lambda arch: next(numbers), 3.0, known={PRESETS['large']: 4.5})
    assert [latency(PRESETS[name]) for name in ('seed', 'small', 'large') * 2] == [
        3.0,
        5.0,
        4.5,
    ] * 2


@pytest.mark.parametrize('ms', [0.0123, 0.99, 1.0, 9.96, 35.1, 1234.5])
def test_the_figure_that_a_refusal_names_is_enough(ms):
    seeds = [PRESETS['seed'], PRESETS['small']]
    with pytest.raises(InputError, match='less than the smallest seeds take') as error:
        Latency(lambda arch: ms + (arch != seeds[0]), 0.001).within_limit(
            seeds, 'the smallest seeds'
        )
    assert str(seeds[0]) in str(error.value)
    enough = float(str(error.value).split('give at least ')[1])
    assert 1.1 * ms <= enough < 1.25 * ms
    # Also where the next measurement is a little slower.
    later = Latency(lambda arch: 1.09 * ms + (arch != seeds[0]), enough)
    assert later.within_limit(seeds[:1], 'the smallest seeds') == seeds[:1]


def test_what_is_too_slow_is_not_measured():
    measured = []

    def measure(requests):
        measured.extend(arch for arch, _ in requests)
        return distance_measure(requests)

    seeds = [SEARCH_SPACE.sample(np.random.default_rng(i)) for i in range(30)]
    found = list(Latency(milliseconds, 8.0).measure(measure, [(s, 0) for s in seeds]))
    for seed, measurement in zip(seeds, found, strict=True):
        assert measurement.latency_ms == milliseconds(seed)
        if milliseconds(seed) > 8:
            assert measurement.refused == f'latency {milliseconds(seed):g} ms exceeds 8 ms'
            assert measurement.values == (None, None)
        else:
            plain = next(distance_measure([(seed, 0)]))
            assert measurement == replace(plain, latency_ms=milliseconds(seed))
    assert measured == [seed for seed in seeds if milliseconds(seed) <= 8]
    assert 0 < len(measured) < 30


def search(name, limit, steps=60, seed=0):
    """A search with a limit, and what it was told."""
    latency = Latency(milliseconds, limit)
    method = METHODS[name](seed=seed)
    records = records_of(method, Memo(partial(latency.measure, distance_measure)), steps)
    told = {as_architecture(r['arch']): Measurement.from_record(r) for r in records}
    assert records[-1]['best'] == (str(found) if (found := result_of(method, told)) else None)
    return method, told


def with_limit(told, limit):
    """What would have been told with another limit."""
    return {
        arch: m if m.latency_ms <= limit else Measurement.refusal('too slow', m.latency_ms)
        for arch, m in told.items()
    }


def test_reinforce_takes_the_most_probable_of_what_keeps_the_limit():
    method, told = search('reinforce', 30.0)
    assert result_of(method, {}) == method.best
    # A limit that the policy's favourite breaks.
    limit = milliseconds(method.best) - 0.5
    found = result_of(method, with_limit(told, limit))
    sizes, logits = method.choices.sizes, method.logits.detach()

    def probability(arch):
        parts = zip(logits.split(sizes), SEARCH_SPACE.encode(arch), strict=True)
        return math.prod(float(part.softmax(0)[i]) for part, i in parts)

    kept = [arch for arch in told if milliseconds(arch) <= limit]
    assert probability(found) == max(map(probability, kept))
    assert found in kept


@pytest.mark.parametrize('name', ['evolution', 'random'])
def test_the_others_take_the_best_of_what_keeps_the_limit(name):
    method, told = search(name, 10.0)
    assert result_of(method, told) == method.best
    limit = milliseconds(method.best) - 0.5
    found = result_of(method, with_limit(told, limit))
    assert milliseconds(found) <= limit
    assert found == method.best_of([a for a in told if milliseconds(a) <= limit])


@pytest.mark.parametrize('name', METHODS)
def test_a_search_without_any_network_within_the_limit(name):
    method, told = search(name, 0.5, steps=40)
    assert result_of(method, told) is None
    fastest = min(told, key=milliseconds)
    with pytest.raises(InputError, match='less than all') as error:
        Latency(milliseconds, 0.5).within_limit(told, 'all networks')
    assert f'{fastest}: {milliseconds(fastest):g} ms' in str(error.value)
