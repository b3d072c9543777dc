"""tools/scale.py as a process: the series, its configs, and the lines of its refusals."""

import json
import shutil
import signal
import subprocess

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from asvit_mm.arch import PRESETS, as_architecture
from asvit_mm.cost import count_params

from .kills import cut, files, stopped
from .runs import TINY, Here, tool

BUDGET = ['--min-params', '5M', '--max-params', '9M']
SEED = '8,2,3|4,1,2|4,1,4|4,1,6|32'
RUN = (SEED, '--work-dir', 'run', '--data', 'digits', '--progressive', *BUDGET, *TINY)


def split(work_dir):
    """Members and candidates of a trace."""
    trace = [json.loads(line) for line in (work_dir / 'trace.jsonl').read_text().splitlines()]
    return tuple([r for r in trace if ('candidate' in r) is c] for c in (False, True))


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A folder with a finished scaling run in run/, and the process."""
    folder = tmp_path_factory.mktemp('scale')
    done = tool('scale.py', *RUN, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_result(finished):
    folder, done = finished
    result = json.loads((folder / 'run' / 'result.json').read_text())
    members, candidates = split(folder / 'run')
    series = result['series']
    assert [member['arch'] for member in series] == [record['arch'] for record in members]
    assert len(candidates) == sum(len(member['candidates']) for member in members)
    assert len(members[0]['candidates']) == 12
    assert result['reached']
    assert result['arch'] == series[-1]['arch']
    assert 5_000_000 <= series[-1]['params'] <= 9_000_000
    for member in series:
        arch = as_architecture(member['arch'])
        assert arch.seed == PRESETS['seed']
        assert member['params'] == count_params(arch, 10, img_size=32)
        assert member['arch'] in done.stdout
    assert (folder / 'run' / 'scaling.png').stat().st_size > 10_000


def test_every_member_has_a_config_that_builds(finished):
    from mmpretrain.registry import MODELS

    folder, _ = finished
    result = json.loads((folder / 'run' / 'result.json').read_text())
    for member in result['series']:
        cfg = Config.fromfile(folder / 'run' / member['config'])
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            model = MODELS.build(cfg.model)
        assert str(model.backbone.architecture) == member['arch']
        assert sum(p.numel() for p in model.parameters()) == member['params']
        assert cfg.custom_hooks[0].type == 'asvit_mm.ProgressiveTokenizationHook'
    assert len(list((folder / 'run' / 'configs').iterdir())) == len(result['series'])


@pytest.fixture
def here(monkeypatch, capsys, tmp_path):
    return Here(monkeypatch, capsys, tmp_path)


def test_from_the_result_of_a_search(here):
    (here.folder / 'result.json').write_text(json.dumps({'arch': SEED}))
    here.run('scale.py', 'result.json', '--data', 'digits', '--min-params', '1', *TINY)
    result = json.loads((here.folder / 'work_dirs' / 'scale' / 'result.json').read_text())
    assert result['topology'] == SEED
    assert len(result['series']) == 1


def test_a_budget_that_no_step_hits_is_said(here):
    out = here.run('scale.py', 'seed', '--data', 'digits', '--min-params', '2.3M',
                   '--max-params', '2.3M', *TINY)  # fmt: skip
    assert 'every larger network exceeds 2,300,000 parameters' in out


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['1,2,3'], 'neither a preset'),
        (['8,2,3|4,1,2|4,1,4|4,1,6|31'], 'H (heads) = 31 is not allowed'),
        (['no.json'], 'is no result of a search'),
        (['seed', '--max-params', 'many'], "'many' is not a number of parameters"),
        (['seed', '--min-params', '9M', '--max-params', '8M'], 'at most 8,000,000'),
        (['seed', '--min-params', '1', '--max-params', '1M'], 'give at least 2,'),
        (['seed', '--data', 'nowhere'], 'no data at'),
    ],
)
def test_refusals(here, args, words):
    assert words in here.refusal('scale.py', *args, *TINY)
    assert not (here.folder / 'work_dirs').exists()


@pytest.mark.slow
def test_killed_interrupted_and_resumed(finished, tmp_path):
    folder, _ = finished
    run, trace = ('scale.py', *RUN), tmp_path / 'run' / 'trace.jsonl'
    status, _ = stopped(*run, cwd=tmp_path, trace=trace, lines=4, signal=signal.SIGKILL)
    assert status == -signal.SIGKILL
    kept = trace.read_bytes()
    kept = kept[: kept.rfind(b'\n') + 1]

    status, errors = stopped(
        *run, '--resume', cwd=tmp_path, trace=trace, lines=max(14, kept.count(b'\n') + 1),
        signal=signal.SIGINT,
    )  # fmt: skip
    assert status == 130
    assert trace.read_bytes().startswith(kept)
    members, candidates = split(tmp_path / 'run')
    line, command = errors.rstrip('\n').split('; go on with: ')
    assert line == (
        f'interrupted after {len(members)} steps and {len(candidates)} candidates, '
        f'largest network so far {members[-1]["arch"]}'
    )
    assert not (tmp_path / 'run' / 'result.json').exists()

    again = subprocess.run(
        command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert f'resumed: {len(members)} steps are done, {len(candidates)} candidates' in again.stdout
    assert files(tmp_path / 'run') == files(folder / 'run')


@pytest.fixture
def copied(finished, here):
    """The finished run in run/ of this test's own folder."""
    shutil.copytree(finished[0] / 'run', here.folder / 'run')
    return here.folder / 'run'


@pytest.mark.parametrize('share', [0.1, 0.95])
def test_a_trace_cut_anywhere(finished, copied, here, share):
    whole = (copied / 'trace.jsonl').read_bytes()
    cut(copied, int(share * len(whole)))
    here.run('scale.py', *RUN, '--resume')
    assert files(copied) == files(finished[0] / 'run')


def test_a_finished_run_is_not_done_again(finished, copied, here):
    out = here.run('scale.py', *RUN, '--resume')
    assert 'the scaling run in run is complete' in out
    assert json.loads((copied / 'result.json').read_text())['arch'] in out
    assert files(copied) == files(finished[0] / 'run')


def test_what_is_not_resumed(finished, copied, here):
    line = here.refusal('scale.py', *RUN, '--resume', '--max-params', '8M')
    assert 'settings.max_params is 9000000 there and 8000000 here' in line
    run = ('--work-dir', 'run', '--data', 'digits', *BUDGET, *TINY)
    line = here.refusal('scale.py', '4' + SEED[1:], *run, '--progressive', '--resume')
    assert f"settings.arch is '{SEED}' there" in line
    line = here.refusal('search.py', '--work-dir', 'run', *TINY, '--resume')
    assert "task is 'scale' there and 'search' here" in line
    assert 'run/run.json exists already: give --resume' in here.refusal('scale.py', *RUN)
    assert files(copied) == files(finished[0] / 'run')


def test_an_altered_candidate(copied, here):
    trace = copied / 'trace.jsonl'
    cut(copied, trace.stat().st_size)
    trace.write_text(trace.read_text().replace('"candidate": 3', '"candidate": 4', 1))
    line = here.refusal('scale.py', *RUN, '--resume')
    assert 'line 4 of run/trace.jsonl is not what this run gives (candidate is 4 there' in line


def test_the_seed_may_be_named_otherwise(finished, copied, here):
    """What is compared is the architecture, not the way to it."""
    (here.folder / 'result.json').write_text(json.dumps({'arch': SEED}))
    run = ('--work-dir', 'run', '--data', 'digits', '--progressive', *BUDGET, *TINY)
    assert 'is complete' in here.run('scale.py', 'result.json', *run, '--resume')
