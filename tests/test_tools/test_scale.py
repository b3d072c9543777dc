"""tools/scale.py: the series, its configs, resuming, and the lines of its refusals."""

import contextlib
import json
import shutil
import signal
import subprocess

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from asvit_mm.arch import PRESETS, as_architecture
from asvit_mm.cost import count_macs, count_params
from asvit_mm.nas import larger_networks
from asvit_mm.runs.results import network_record
from asvit_mm.runs.scale import run_scaling
from asvit_mm.runs.settings import ScaleSettings

from .kills import cut, files, stopped
from .runs import TINY, tool

BUDGET = ['--min-params', '3.5M', '--max-params', '9M']
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
    assert 3_500_000 <= series[-1]['params'] <= 9_000_000
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
        detection = Config.fromfile(folder / 'run' / member['detection_config'])
        assert detection.model.backbone.arch == member['arch']
    networks = {one['config'] for one in [*result['series'], *result['front']]}
    assert len(list((folder / 'run' / 'configs').iterdir())) == 2 * len(networks)


def test_from_the_result_of_a_search_to_a_budget_that_no_step_hits(here):
    (here.folder / 'result.json').write_text(json.dumps({'arch': SEED}))
    out = here.run('scale.py', 'result.json', '--data', 'digits', '--min-params', '2.3M',
                   '--max-params', '2.3M', *TINY)  # fmt: skip
    assert 'every larger network exceeds 2,300,000 parameters' in out
    result = json.loads((here.folder / 'work_dirs' / 'scale' / 'result.json').read_text())
    assert result['topology'] == SEED


def test_a_search_is_remembered(here):
    """Its data, image size and limits, unless others are given."""
    theirs = {'data': 'digits', 'img_size': 32, 'max_params': 2_300_000, 'max_flops': 7_000_000}
    (here.folder / 'result.json').write_text(json.dumps({'arch': SEED, 'settings': theirs}))
    tiny = ['--repeat', 1, '--batch-size', 4, '--device', 'cpu']
    out = here.run('scale.py', 'result.json', '--max-flops', '9M', *tiny)
    assert 'from result.json: data digits, max_params 2300000, img_size 32\n' in out
    assert 'note: ' not in out
    result = json.loads((here.folder / 'work_dirs' / 'scale' / 'result.json').read_text())
    settings = result['settings']
    assert (settings['data'], settings['img_size'], settings['min_params']) == ('digits', 32, None)
    assert (settings['max_params'], settings['max_flops']) == (2_300_000, 9_000_000)
    assert result['measured_on'] == {'data': 'digits', 'img_size': 32}
    assert [use['limit'] for use in result['budget']] == ['--max-params', '--max-flops']
    assert 'the next larger network would have 2,3' in out
    out = here.run('scale.py', 'result.json', '--img-size', 16, *tiny, '--work-dir', 'other')
    assert 'measured on digits at 32 pixels and this run on digits at 16: its scores are not' in out


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['1,2,3'], 'neither a preset'),
        (['8,2,3|4,1,2|4,1,4|4,1,6|31'], 'H (heads) = 31 is not allowed'),
        (['no.json'], 'cannot be read (No such file or directory): give the result.json'),
        (['seed', '--max-params', 'many'], "'many' is not a number of parameters"),
        (['seed', '--min-params', '9M', '--max-params', '8M'], 'at most 8,000,000'),
        (['seed', '--min-params', '1', '--max-params', '0.5M'], 'give at least 7'),
        (['seed', '--data', 'nowhere'], 'no data at'),
        (['seed', '--targets', '3M', '--max-params', '4M'], '--targets are limits themselves'),
        (['seed', '--targets', '3M', '--min-params', '80M'], '--targets are limits themselves'),
        (['seed', '--targets', '3M', 'many'], "'many' is not a number of parameters"),
        (['seed', '--targets', '80M', '0.5M'], '--max-params 500,000 is less than the smallest'),
        (
            ['seed', '--max-flops', '1M'],
            '--max-flops 1,000,000 is less than the smallest candidate',
        ),
        (['seed', '--max-latency', '1e-3'], '--max-latency 0.001 is less than the smallest cand'),
        (['seed', '--max-latency', '0'], '--max-latency 0 is no limit'),
    ],
)
def test_refusals(here, args, words):
    assert words in here.refusal('scale.py', *args, *TINY)
    assert not (here.folder / 'work_dirs').exists()


TARGETS = [2_300_000, 2_600_000]


@pytest.fixture(scope='module')
def targets(tmp_path_factory):
    """A folder with a finished run to targets, given in descending order, in run/."""
    folder = tmp_path_factory.mktemp('targets')
    settings = ScaleSettings(
        SEED, work_dir=str(folder / 'run'), data='digits', img_size=32, batch_size=4, repeat=1,
        device='cpu', targets=['2.6M', '2.3M'], progressive=True,
    )  # fmt: skip
    with contextlib.chdir(folder):
        run_scaling(settings)
    return folder


def test_targets(targets):
    result = json.loads((targets / 'run' / 'result.json').read_text())
    members, candidates = split(targets / 'run')
    assert [best['target'] for best in result['targets']] == TARGETS
    assert result['settings']['targets'] == TARGETS
    measured = [record['proxy'] for record in candidates if not record['recalled']]
    assert len(measured) == len(set(measured)) < len(candidates)
    for best in result['targets']:
        of_target = [member for member in members if member['target'] == best['target']]
        arch = as_architecture(best['arch'])
        assert arch == as_architecture(of_target[-1]['arch'])
        assert best['params'] == count_params(arch, 10, img_size=32) <= best['target']
        # Nothing that could come next is within the target.
        following = larger_networks(arch)
        assert all(count_params(n, 10, img_size=32) > best['target'] for n in following)
        backbone = Config.fromfile(targets / 'run' / best['config']).model.backbone
        assert as_architecture(backbone.arch) == arch
    assert result['series'][-1]['arch'] == result['arch'] == result['targets'][-1]['arch']


def test_a_run_to_targets_cut_anywhere(targets, here):
    copy = here.folder / 'run'
    shutil.copytree(targets / 'run', copy)
    cut(copy, int(0.6 * (copy / 'trace.jsonl').stat().st_size))
    run = (*RUN[:6], '--targets', '2300000', '2.6M', *TINY, '--resume')
    here.run('scale.py', *run)
    assert files(copy) == files(targets / 'run')


def test_limits_of_multiply_adds_and_latency(here):
    run = (*RUN[:6], '--max-flops', '11M', '--max-latency', 10_000, *TINY)
    out = here.run('scale.py', *run)
    result = json.loads((here.folder / 'run' / 'result.json').read_text())
    assert 'exceeds 110,000,000 parameters or 11,000,000 multiply-adds' in out
    for member in result['series']:
        assert count_macs(as_architecture(member['arch']), 32, 10) <= 11_000_000
        assert 0 < member['latency_ms'] <= 10_000
    trace = (here.folder / 'run' / 'trace.jsonl').read_bytes()
    cut(here.folder / 'run', len(trace))
    here.run('scale.py', *run, '--resume')
    assert (here.folder / 'run' / 'trace.jsonl').read_bytes() == trace
    assert json.loads((here.folder / 'run' / 'result.json').read_text()) == result


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
        'what it found is in run/so_far.json'
    )
    assert not (tmp_path / 'run' / 'result.json').exists()
    so_far = json.loads((tmp_path / 'run' / 'so_far.json').read_text())
    assert [member['arch'] for member in so_far['series']] == [m['arch'] for m in members]
    for member in so_far['series']:
        assert f"arch='{member['arch']}'" in (tmp_path / 'run' / member['config']).read_text()

    again = subprocess.run(
        command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert (
        f'resumed: {len(members)} steps and {len(candidates)} candidates are done' in again.stdout
    )
    assert files(tmp_path / 'run') == files(folder / 'run')


def test_interrupted_before_a_member_has_its_configs(here, monkeypatch):
    settings = ScaleSettings(
        'seed', work_dir='run', data='digits', img_size=16, batch_size=4, repeat=1, device='cpu',
        min_params='5.2M', max_params='9M',
    )  # fmt: skip
    called = []

    def interrupt(arch, configs):
        called.append(arch)
        if len(called) == 2:
            raise KeyboardInterrupt
        return network_record(arch, configs)

    monkeypatch.setattr('asvit_mm.runs.scale.network_record', interrupt)
    with pytest.raises(
        KeyboardInterrupt, match=r'after 1 steps .* what it found is in run/so_far\.json'
    ):
        run_scaling(settings)
    so_far = json.loads((here.folder / 'run' / 'so_far.json').read_text())
    assert [member['arch'] for member in so_far['series']] == [so_far['arch']] == [str(called[0])]
    assert (here.folder / 'run' / so_far['series'][0]['config']).exists()


@pytest.fixture
def copied(finished, here):
    """The finished run in run/ of this test's own folder."""
    shutil.copytree(finished[0] / 'run', here.folder / 'run')
    return here.folder / 'run'


def test_a_trace_cut_anywhere(finished, copied, here):
    whole = (copied / 'trace.jsonl').read_bytes()
    cut(copied, int(0.6 * len(whole)))
    here.run('scale.py', *RUN, '--resume')
    assert files(copied) == files(finished[0] / 'run')


def test_what_is_resumed_and_what_is_not(finished, copied, here):
    """The architecture is compared, however it is named."""
    run = ('--work-dir', 'run', '--data', 'digits', *BUDGET, *TINY)
    line = here.refusal('scale.py', '4' + SEED[1:], *run, '--progressive', '--resume')
    assert f"settings.arch is '{SEED}' there" in line
    line = here.refusal('search.py', '--work-dir', 'run', *TINY, '--resume')
    assert "task is 'scale' there and 'search' here" in line
    assert 'run/run.json exists already: give --resume' in here.refusal('scale.py', *RUN)
    (here.folder / 'result.json').write_text(json.dumps({'arch': SEED}))
    out = here.run('scale.py', 'result.json', *run, '--progressive', '--resume')
    assert 'is complete' in out
    assert files(copied) == files(finished[0] / 'run')
