"""Measurements that depend on the architecture alone, and those that are recalled."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asvit_mm.arch import PRESETS, SEARCH_SPACE, as_architecture
from asvit_mm.errors import InputError
from asvit_mm.measures import Score, measure
from asvit_mm.nas import ComplexityMeasure, Measurement, Memo

SCORES = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True).map(Score),
    st.text(max_size=20).map(Score.bad),
    st.sampled_from(['', 'ntk_condition_number: y', 'a; b']).map(Score.bad),
)
LATENCIES = st.none() | st.floats(0.001, 1e6)
SEED = PRESETS['seed']
OTHER = as_architecture('4,2,2|2,1,2|2,1,2|2,1,2|16')


def images(repeat, size=16):
    return torch.randn(repeat, 3, 3, size, size, generator=torch.Generator().manual_seed(0))


def counting(asked):
    """A measure that says how often it was asked before."""

    def count(requests):
        for request in requests:
            asked.append(request)
            yield Measurement(Score(float(len(asked))), Score(1.0))

    return count


def lengths(found):
    return [measurement.length_distortion.value for measurement, _ in found]


@given(SCORES, SCORES, LATENCIES, st.none() | st.text(max_size=9))
def test_a_record_gives_the_measurement_back(length, kappa, latency, refused):
    measurement = Measurement(length, kappa, latency)
    if refused is not None:
        measurement = Measurement.refusal(refused, latency)
    record = json.loads(json.dumps(measurement.to_record(), allow_nan=False))
    again = Measurement.from_record(record)
    assert again.to_record() == record == measurement.to_record()
    assert (again.values, again.invalid) == (measurement.values, measurement.invalid)
    assert (again.latency_ms, again.refused) == (latency, refused)


def test_the_reason_of_each_measure_is_a_field():
    measurement = Measurement(Score(1.0), Score.bad('singular; ntk_condition_number: x'))
    assert measurement.to_record() == {
        'length_distortion': 1.0,
        'ntk_condition_number': None,
        'invalid': {'ntk_condition_number': 'singular; ntk_condition_number: x'},
    }
    refused = Measurement.refusal('latency 9 ms exceeds 5 ms', 9.0)
    assert refused.to_record() == {
        'length_distortion': None,
        'ntk_condition_number': None,
        'latency_ms': 9.0,
        'refused': 'latency 9 ms exceeds 5 ms',
    }
    assert list(Measurement(Score(1.0), Score(2.0)).to_record()) == list(refused.to_record())[:2]


@pytest.mark.parametrize('value', ['3', 3, True, [3.0], math.nan, math.inf])
def test_what_is_not_a_number_gives_another_record(value):
    record = {'length_distortion': value, 'ntk_condition_number': 2.0}
    assert Measurement.from_record(record).to_record() != record
    record = {'length_distortion': 1.0, 'ntk_condition_number': 2.0, 'latency_ms': value}
    assert Measurement.from_record(record).to_record() != record


def test_a_measurement_is_that_of_the_package():
    batches = images(2)
    measured = ComplexityMeasure(batches, img_size=16, seed=5)
    expected = measure(SEED, batches, img_size=16, repeat=2, seed=(5, *SEED.numbers, 1))
    assert list(measured([(SEED, 1)])) == [Measurement(**expected)]


def test_a_measurement_does_not_depend_on_its_place():
    measured = ComplexityMeasure(images(1), img_size=16)
    one, two, again = measured([(SEED, 0), (OTHER, 0), (SEED, 0)])
    assert one == again != two
    assert list(measured([(OTHER, 0)])) == [two]
    assert next(measured([(SEED, 1)])) != one


def test_the_same_topology_at_another_size_has_other_weights():
    scaled = SEED.with_size((1, 1, 1, 1), 40)
    assert SEED.numbers != scaled.numbers
    assert SEED.numbers == SEED.with_size(SEED.depths, SEED.width).numbers


def test_images_of_another_shape_are_refused():
    with pytest.raises(InputError, match='do not fit'):
        ComplexityMeasure(images(1), img_size=32)


def test_what_comes_again_is_recalled():
    asked = []
    memo = Memo(counting(asked))
    assert [recalled for _, recalled in memo([SEED, OTHER, SEED])] == [False, False, True]
    assert [recalled for _, recalled in memo([OTHER])] == [True]
    assert asked == [(SEED, 0), (OTHER, 0)]
    assert memo.measured == 2
    assert lengths(memo([SEED, OTHER])) == [1, 2]


def test_or_measured_anew():
    asked = []
    memo = Memo(counting(asked), remeasure=True)
    found = [*memo([SEED, SEED]), *memo([SEED])]
    assert lengths(found) == [1, 2, 3]
    assert not any(recalled for _, recalled in found)
    assert asked == [(SEED, 0), (SEED, 1), (SEED, 2)]
    assert memo.measured == 3


def test_a_refused_one_was_not_measured():
    memo = Memo(lambda requests: (Measurement.refusal('too slow') for _ in requests))
    assert [recalled for _, recalled in memo([SEED, SEED])] == [False, True]
    assert memo.measured == 0


@pytest.mark.parametrize('remeasure', [False, True])
def test_what_is_known_is_not_measured(remeasure):
    asked = []
    known = {(SEED, 0): Measurement(Score(7.0), Score(1.0))}
    memo = Memo(counting(asked), remeasure=remeasure, known=known)
    found = list(memo([SEED, OTHER, SEED]))
    assert lengths(found) == [7, 1, 2 if remeasure else 7]
    # As in a run that was never stopped, the first one is not a recalled one.
    assert [recalled for _, recalled in found] == [False, False, not remeasure]
    assert asked[0] == (OTHER, 0)


def test_one_measurement_at_a_time():
    """So that a kill loses no more than the one in flight."""
    asked = []
    found = Memo(counting(asked))([SEED, OTHER])
    next(found)
    assert asked == [(SEED, 0)]


def test_encoding_is_the_inverse_of_decoding():
    for indices in ([0] * 12, [len(v) - 1 for v in SEARCH_SPACE.choices.values()]):
        assert SEARCH_SPACE.encode(SEARCH_SPACE.decode(indices)) == indices
