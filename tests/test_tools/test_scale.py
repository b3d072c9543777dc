"""tools/scale.py as a process: the series, its configs, and the lines of its refusals."""

import json

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from asvit_mm.arch import PRESETS, as_architecture
from asvit_mm.cost import count_params

from .runs import TINY, Here, tool

BUDGET = ['--min-params', '2.6M', '--max-params', '6M']
SEED = '8,2,3|4,1,2|4,1,4|4,1,6|32'


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A folder with a finished scaling run in run/, and the process."""
    folder = tmp_path_factory.mktemp('scale')
    done = tool(
        'scale.py', SEED, '--work-dir', 'run', '--data', 'digits', '--progressive', *BUDGET, *TINY,
        cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, done


def test_result(finished):
    folder, done = finished
    result = json.loads((folder / 'run' / 'result.json').read_text())
    trace = [json.loads(line) for line in (folder / 'run' / 'trace.jsonl').read_text().splitlines()]
    series = result['series']
    assert [member['arch'] for member in series] == [record['arch'] for record in trace]
    assert len(trace[0]['candidates']) == 12
    assert result['reached']
    assert result['arch'] == series[-1]['arch']
    assert 2_600_000 <= series[-1]['params'] <= 6_000_000
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
