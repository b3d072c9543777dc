"""Runs that take their measurements from a trace, and the command that resumes a run."""

import itertools
import json
import shlex
from dataclasses import replace
from functools import partial

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
)
from asvit_mm.runs.run import (
    known_measurements,
    open_folder,
    read_budget,
    read_latency,
    resume_command,
)
from asvit_mm.runs.settings import ScaleSettings, SearchSettings

from ..test_nas.toy import choices, cost_measure, distance, distance_measure, records_of


def plain(value):
    return json.loads(json.dumps(value, allow_nan=False))


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
@given(stop=st.integers(0, 60), seed=st.integers(0, 5))
@settings(max_examples=3)
def test_a_search_goes_on_exactly_from_any_step(method, remeasure, stop, seed):
    def run(measure):
        search = METHODS[method](seed=seed)
        return records_of(search, measure, 60), search.best

    records, best = run(Memo(sometimes_bad, remeasure=remeasure))
    asked = []

    def measure(requests):
        asked.extend(requests)
        return sometimes_bad(requests)

    kept = known_measurements(plain(records[:stop]), remeasure=remeasure)
    assert run(Memo(measure, remeasure=remeasure, known=kept)) == (records, best)
    assert not set(asked) & set(kept)
    assert len(asked) == len(set(asked)) == sum(not r['recalled'] for r in records) - len(kept)


LIMITED = SearchSettings(data='noise', device='cpu', max_latency=42.5)


@pytest.mark.parametrize('method', ['reinforce', 'evolution'])
@given(stop=st.integers(0, 40))
@settings(max_examples=3)
def test_a_search_with_latencies_goes_on_exactly_from_any_step(method, stop):
    """The clock never gives the same again, so what a resumed run has must be the trace's."""
    clock = itertools.count(1000)
    timed = []

    def milliseconds(arch):
        timed.append(arch)
        return sum(choices(arch)[:-1]) + next(clock) / 1000

    def run(records):
        known = known_measurements(records)
        latency = read_latency(LIMITED, known)
        latency.clock = milliseconds
        memo = Memo(partial(latency.measure, sometimes_bad), known=known)
        return records_of(METHODS[method](seed=1), memo, 40), latency

    records, _ = run([])
    assert 0 < sum('refused' in record for record in records) < 40
    timed.clear()
    again, latency = run(plain(records[:stop]))
    assert again[:stop] == records[:stop]
    for arch in known_measurements(records[:stop]):
        latency(arch[0])
    assert not {record['arch'] for record in records[:stop]} & set(map(str, timed))
    assert len(timed) == len(set(timed))


def scale(measure, kept=None, latency=None):
    """The lines of a scaling run."""
    memo = Memo(measure if latency is None else partial(latency.measure, measure), known=kept)
    search = AutoScaling(PRESETS['seed'], Budget(10, 32, 6_000_000), min_params=3_000_000)
    trace = []

    def report(number, candidate):
        trace.append({'candidate': number, **plain(candidate.to_record())})

    while (member := search.step(memo, report)) is not None:
        trace.append(plain(member.to_record(candidates=True)))
    return trace


@pytest.mark.parametrize('stop', [0, 11, 12, 13])
@pytest.mark.parametrize('limit', [None, 30.0])
def test_scaling_goes_on_exactly_from_any_candidate(stop, limit):
    timed, measured = [], []

    def milliseconds(arch):
        timed.append(arch)
        return float(len(timed) % 3 + 29)

    def measure(requests):
        measured.extend(requests)
        return cost_measure(requests)

    def run(kept=None):
        latencies = {arch: m.latency_ms for (arch, _), m in (kept or {}).items()}
        latency = limit and Latency(milliseconds, limit, latencies)
        return scale(measure, kept, latency)

    whole = run()
    assert [r.get('candidate') for r in whole[:13]] == [*range(12), None]
    assert any('refused' in record for record in whole[:12]) == (limit is not None)
    candidates = [record for record in whole[:stop] if 'candidate' in record]
    before = {record['arch'] for record in candidates}
    timed.clear()
    measured.clear()
    again = run(known_measurements(candidates))
    assert again[:stop] == whole[:stop]
    assert limit or again == whole
    assert not {str(arch) for arch in timed} & before
    assert not {str(arch) for arch, _ in measured} & before


def test_an_altered_value_changes_what_follows():
    """Why comparing records is enough to find an altered measurement: the rewards tell."""

    def run(kept=None):
        return records_of(Reinforce(), Memo(distance_measure, known=kept), 6)

    records = run()
    for i in range(1, 6):
        altered = plain(records)
        altered[i]['ntk_condition_number'] += 0.5
        assert run(known_measurements(altered))[i] != altered[i]


def test_a_record_without_an_architecture_is_refused():
    with pytest.raises(InputError, match='architecture'):
        known_measurements([{'arch': 3, 'length_distortion': 1.0}])


def test_limits_are_numbers_or_text():
    for limits in (('3M', '0.4G'), (3_000_000, 400_000_000)):
        run = SearchSettings(data='digits', device='cpu', max_flops=limits[1])
        budget = read_budget(run, limits[0])
        assert (budget.max_params, budget.max_macs) == (3_000_000, 400_000_000)
        assert run.fingerprint()['max_flops'] == 400_000_000


def test_another_attention_kernel_is_said_and_goes_on(tmp_path, monkeypatch, capsys):
    run = SearchSettings(work_dir=str(tmp_path), data='digits', device='cpu', resume=True)
    for kernel, words in ((True, 'holds no run yet'), (False, 'of asvit_mm and goes on with')):
        monkeypatch.setattr('asvit_mm.ops.attention.has_kernel', lambda kernel=kernel: kernel)
        with open_folder(run, 'search', run.fingerprint()) as folder:
            assert folder.run['attention_kernel'] == 'asvit_mm'
            assert folder.resumed is not kernel
        assert words in capsys.readouterr().out


def test_the_command_says_what_differs_from_the_defaults(tmp_path):
    def words(run, name):
        return shlex.split(resume_command(run, tmp_path / name))[1:]

    search = SearchSettings(
        work_dir='my run', data='digits', steps=7, progressive=True, overwrite=True, device='cpu'
    )
    assert words(search, 'search.py')[0] == str(tmp_path / 'search.py')
    assert ' '.join(words(search, 'search.py')[1:]) == (
        '--data digits --device cpu --work-dir my run --progressive --steps 7 --resume'
    )
    shared = words(replace(search, launcher='pytorch'), 'search.py')
    assert shared[:3] == ['-m', 'torch.distributed.run', '--nproc_per_node=1']
    assert shared[3] == str(tmp_path / 'search.py')
    assert '--launcher pytorch' in shlex.join(shared)
    scaled = ScaleSettings(work_dir='x', arch='seed', targets=['29M', '88M'], max_flops='9G')
    assert ' '.join(words(scaled, 'scale.py')[1:]) == (
        'seed --work-dir x --max-flops 9G --targets 29M 88M --resume'
    )
