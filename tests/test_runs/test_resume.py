"""Searches that recall their measurements from a trace, and the command that resumes a run."""

import itertools
import json
import math
import shlex
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asvit_mm.arch import PRESETS
from asvit_mm.errors import InputError
from asvit_mm.measures import Score
from asvit_mm.nas import (
    METHODS,
    AutoScaling,
    Budget,
    Latency,
    Measurement,
    Memo,
    Reinforce,
    WithinLatency,
    known_latencies,
    measured_fields,
    search_seeds,
    too_slow,
)
from asvit_mm.runs.resume import known, recorded
from asvit_mm.runs.settings import ScaleSettings, SearchSettings

from ..test_nas.toy import choices, cost_measure, distance, distance_measure

SCORES = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True).map(Score),
    st.text(max_size=20).map(Score.bad),
    st.sampled_from(['length_distortion: x', 'ntk_condition_number: y', 'a; b']).map(Score.bad),
)


def plain(value):
    return json.loads(json.dumps(value, allow_nan=False))


@given(SCORES, SCORES)
def test_a_recorded_measurement_gives_the_same_fields(length, kappa):
    fields = measured_fields(Measurement(length, kappa))
    assert measured_fields(recorded(plain(fields))) == fields


@pytest.mark.parametrize('value', ['3', 3, True, [3.0], math.nan, math.inf])
def test_a_value_that_is_no_number_does_not_come_back(value):
    fields = {'length_distortion': value, 'ntk_condition_number': 2.0}
    assert measured_fields(recorded(fields)) != fields


def sometimes_bad(requests):
    for arch, draw in requests:
        found, kind = distance(arch), sum(choices(arch)) + draw
        if kind % 5 == 3:
            yield Measurement(found.length_distortion, Score.bad('network 1 of 1: singular'))
        elif kind % 7 == 0:
            yield Measurement(Score.bad('NaN'), Score.bad('NaN'))
        else:
            yield Measurement(
                found.length_distortion, Score(found.ntk_condition_number.value + draw)
            )


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('remeasure', [False, True])
@given(stop=st.integers(0, 80), seed=st.integers(0, 5))
@settings(max_examples=5)
def test_a_search_goes_on_exactly_from_any_step(method, remeasure, stop, seed):
    def run(measure):
        search = METHODS[method](seed=seed)
        return [*search_seeds(search, measure, 80)], search.best

    records, best = run(Memo(sometimes_bad, remeasure=remeasure))
    asked = []

    def measure(requests):
        asked.extend(requests)
        return sometimes_bad(requests)

    kept = known(plain(records[:stop]), remeasure=remeasure)
    assert run(Memo(measure, remeasure=remeasure, known=kept)) == (records, best)
    assert not set(asked) & set(kept)
    assert len(asked) == len(set(asked)) == sum(not r['recalled'] for r in records) - len(kept)


def with_latency(refused):
    """A measurement in a run that limits the latency; ``refused`` or not."""
    if refused:
        return replace(too_slow('latency 9.5 ms exceeds 9 ms'), latency_ms=9.5)
    return Measurement(Score(1.0), Score.bad('singular'), 8.25)


@pytest.mark.parametrize('refused', [True, False])
def test_a_recorded_latency(refused):
    fields = measured_fields(with_latency(refused))
    again = recorded(plain(fields))
    assert measured_fields(again) == fields
    assert (again.refused is not None) == refused
    for value in ('8', 8, None, math.nan, math.inf):
        assert measured_fields(recorded({**fields, 'latency_ms': value})) != fields


@pytest.mark.parametrize('method', METHODS)
@given(stop=st.integers(0, 60))
@settings(max_examples=5)
def test_a_search_with_latencies_goes_on_exactly_from_any_step(method, stop):
    """The clock never gives the same again, so what a resumed run has must be the trace's."""
    clock = itertools.count(1000)
    timed = []

    def milliseconds(arch):
        timed.append(arch)
        return sum(choices(arch)[:-1]) + next(clock) / 1000

    def run(records):
        latency = Latency(milliseconds, 42.5, known_latencies(records))
        memo = Memo(WithinLatency(sometimes_bad, latency), known=known(records))
        return [*search_seeds(METHODS[method](seed=1), memo, 60)]

    records = run([])
    assert 0 < sum('latency ' in record.get('bad', '') for record in records) < 60
    assert run(plain(records)) == records
    timed.clear()
    again = run(plain(records[:stop]))
    assert again[:stop] == records[:stop]
    assert not {record['arch'] for record in records[:stop]} & set(map(str, timed))
    assert len(timed) == len(set(timed))


def scale(measure, kept=None):
    search = AutoScaling(
        PRESETS['seed'],
        Memo(measure, known=kept),
        Budget(10, 32, 9_000_000),
        min_params=3_000_000,
    )
    trace = []
    while (member := search.step(trace.append)) is not None:
        trace.append(plain(member))
    return trace


@pytest.mark.parametrize('stop', [0, 1, 11, 12, 13, 20])
def test_scaling_goes_on_exactly_from_any_candidate(stop):
    whole = scale(cost_measure)
    assert [r.get('candidate') for r in whole[:13]] == [*range(12), None]
    candidates = [record for record in whole[:stop] if 'candidate' in record]
    measured = []

    def measure(requests):
        measured.extend(requests)
        return cost_measure(requests)

    assert scale(measure, known(plain(candidates), name='proxy')) == whole
    assert len(measured) == sum('candidate' in record for record in whole) - len(candidates)


def test_an_altered_value_changes_what_follows():
    """Why comparing records is enough to find an altered measurement: the rewards tell."""

    def run(kept=None):
        return [*search_seeds(Reinforce(), Memo(distance_measure, known=kept), 6)]

    records = run()
    for i in range(1, 6):
        altered = plain(records)
        altered[i]['ntk_condition_number'] += 0.5
        assert run(known(altered))[i] != altered[i]


def test_a_record_without_an_architecture_is_refused():
    with pytest.raises(InputError, match='architecture'):
        known([{'arch': 3, 'length_distortion': 1.0}])


def test_settings_that_decide():
    first = SearchSettings(work_dir='a', data='digits', device='cpu', overwrite=True)
    second = SearchSettings(work_dir='b', data='digits', device='cpu', img_size=32, resume=True)
    assert first.decisive() == second.decisive()
    for change in ({'steps': 3}, {'seed': 1}, {'progressive': True}, {'repeat': 1}):
        other = SearchSettings(work_dir='a', data='digits', device='cpu', **change)
        assert other.decisive() != first.decisive()


def test_the_command_says_what_differs_from_the_defaults(tmp_path):
    search = SearchSettings(
        work_dir='my run', data='digits', steps=7, progressive=True, overwrite=True, device='cpu'
    )
    words = shlex.split(search.command(tmp_path / 'search.py'))[1:]
    assert words[0] == str(tmp_path / 'search.py')
    assert ' '.join(words[1:]) == (
        '--work-dir my run --data digits --device cpu --progressive --steps 7 --resume'
    )
    shared = replace(search, launcher='pytorch')
    words = shlex.split(shared.command(tmp_path / 'search.py'))
    assert words[1:4] == ['-m', 'torch.distributed.run', '--nproc_per_node=1']
    assert words[4] == str(tmp_path / 'search.py')
    assert '--launcher pytorch' in shlex.join(words)
    scaled = ScaleSettings(work_dir='x', arch='8,2,3|4,1,2|4,1,4|4,1,6|32', max_params='90M')
    words = shlex.split(scaled.command(tmp_path / 'scale.py', 'arch'))[2:]
    assert words == [scaled.arch, '--work-dir', 'x', '--max-params', '90M', '--resume']
    scaled = ScaleSettings(work_dir='x', arch='seed', targets=['29M', '88M'], max_flops='9G')
    words = shlex.split(scaled.command(tmp_path / 'scale.py', 'arch'))[2:]
    assert ' '.join(words) == 'seed --work-dir x --max-flops 9G --targets 29M 88M --resume'
