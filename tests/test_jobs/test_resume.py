"""Searches that recall their measurements from a trace, and the command that resumes a run."""

import json
import math
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asvit_mm.arch import PRESETS
from asvit_mm.complexity import Score
from asvit_mm.cost import count_params
from asvit_mm.jobs.resume import recalling, recorded
from asvit_mm.jobs.scale import ScaleSettings
from asvit_mm.jobs.search import SearchSettings
from asvit_mm.search import AutoScaling, Measurement, ReinforceSearch, measured_fields

from ..test_search.toy import cost_measure, distance_measure

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


def sometimes_bad(arch, *key):
    found = distance_measure(arch)
    if key[0] % 5 == 3:
        return Measurement(found.length_distortion, Score.bad('network 1 of 1: singular'))
    return found if key[0] % 7 else Measurement(Score.bad('NaN'), Score.bad('NaN'))


@given(st.integers(0, 20), st.integers(0, 5))
@settings(max_examples=20)
def test_a_search_goes_on_exactly_from_any_step(stop, seed):
    whole = ReinforceSearch(sometimes_bad, seed=seed)
    records = [whole.step() for _ in range(20)]
    measured = []

    def measure(arch, *key):
        measured.append(key)
        return sometimes_bad(arch, *key)

    again = ReinforceSearch(recalling(measure, plain(records[:stop])), seed=seed)
    assert [again.step() for _ in range(20)] == records
    assert measured == [(step,) for step in range(stop, 20)]
    assert again.most_likely == whole.most_likely


def scale(measure):
    search = AutoScaling(
        PRESETS['seed'],
        measure,
        lambda arch: count_params(arch, 10, img_size=32),
        min_params=3_000_000,
        max_params=9_000_000,
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

    def measure(arch, *key):
        measured.append(key)
        return cost_measure(arch, *key)

    assert scale(recalling(measure, plain(candidates))) == whole
    assert len(measured) == sum('candidate' in record for record in whole) - len(candidates)


def test_an_altered_value_changes_what_follows():
    """Why comparing records is enough to find an altered measurement: the rewards tell."""
    search = ReinforceSearch(distance_measure, seed=0)
    records = [search.step() for _ in range(6)]
    for i in range(1, 6):
        altered = plain(records)
        altered[i]['ntk_condition_number'] += 0.5
        again = ReinforceSearch(recalling(distance_measure, altered), seed=0)
        assert [again.step() for _ in range(6)][i] != altered[i]


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
    scaled = ScaleSettings(work_dir='x', arch='8,2,3|4,1,2|4,1,4|4,1,6|32', max_params='90M')
    words = shlex.split(scaled.command(tmp_path / 'scale.py', 'arch'))[2:]
    assert words == [scaled.arch, '--work-dir', 'x', '--max-params', '90M', '--resume']
