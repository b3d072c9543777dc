"""tools/search.py as a process: what it writes, determinism, and the lines of its refusals."""

import json
import subprocess
import sys
import time

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from asvit_mm.arch import as_architecture
from asvit_mm.cost import count_params

from .runs import TINY, TOOLS, Here, tool


def records(work_dir):
    lines = (work_dir / 'trace.jsonl').read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [{k: v for k, v in record.items() if k != 'seconds'} for record in found]


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A folder with a finished search in run/, and the process."""
    folder = tmp_path_factory.mktemp('search')
    done = tool(
        'search.py', '--work-dir', 'run', '--data', 'digits', '--steps', 3, *TINY, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return folder, done


def test_result(finished):
    folder, done = finished
    result = json.loads((folder / 'run' / 'result.json').read_text())
    arch = as_architecture(result['arch'])
    assert arch.is_seed
    assert result['params'] == count_params(arch, 10, img_size=32)
    assert result['length_distortion'] > 0
    assert result['ntk_condition_number'] >= 1
    assert result['settings']['seed'] == 0
    assert (result['steps'], len(records(folder / 'run'))) == (3, 3)
    assert str(arch) in done.stdout
    assert (folder / 'run' / 'search.png').stat().st_size > 10_000


def test_its_config_builds_a_classifier(finished):
    from mmpretrain.models import ImageClassifier
    from mmpretrain.registry import MODELS

    folder, done = finished
    result = json.loads((folder / 'run' / 'result.json').read_text())
    cfg = Config.fromfile(folder / 'run' / result['config'])
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
    assert isinstance(model, ImageClassifier)
    assert sum(p.numel() for p in model.parameters()) == result['params']
    command = done.stdout.splitlines()[-1].split('train it')[1].split()
    assert (folder / command[-1]).samefile(folder / 'run' / result['config'])
    assert (folder / command[-2]).samefile(TOOLS / 'train.py')


@pytest.fixture
def here(monkeypatch, capsys, tmp_path):
    return Here(monkeypatch, capsys, tmp_path)


def test_the_same_seed_gives_the_same_trace(finished, here):
    folder, _ = finished
    for seed in (0, 1):
        args = ('--work-dir', f'run{seed}', '--data', 'digits', '--seed', seed, '--steps', 2)
        here.run('search.py', *args, *TINY)
    assert records(here.folder / 'run0') == records(folder / 'run')[:2]
    assert records(here.folder / 'run1') != records(here.folder / 'run0')


def test_results_are_not_overwritten_unasked(finished):
    folder, _ = finished
    before = (folder / 'run' / 'trace.jsonl').read_text()
    args = ('--work-dir', 'run', '--data', 'noise', '--steps', 1, *TINY)
    done = tool('search.py', *args, cwd=folder)
    assert done.returncode == 2
    assert done.stderr.startswith('error: run/result.json exists already')
    assert done.stderr.count('\n') == 1
    assert (folder / 'run' / 'trace.jsonl').read_text() == before


def test_overwrite(here):
    args = ('--work-dir', 'run', '--steps', 1, *TINY)
    here.run('search.py', '--data', 'noise', *args)
    here.run('search.py', '--data', 'digits', *args, '--overwrite')
    configs = here.folder / 'run' / 'configs'
    assert [path.name for path in configs.iterdir()] == ['asvit-seed_b64_digits.py']


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['--data', 'nowhere'], "no data at 'nowhere'"),
        (['--data', 'digits', '--batch-size', '2000'], 'holds 1437 images and 2000 are needed'),
        (['--batch-size', '1'], '--batch-size 1 is too small'),
        (['--steps', '0'], '--steps 0 is too small'),
        (['--device', 'gpu'], "--device 'gpu' is no device"),
        (['--device', 'cuda:99'], "'cuda:99' is not there"),
        (['--work-dir', 'file/run'], "'file/run' cannot be written"),
    ],
)
def test_refusals(here, args, words):
    (here.folder / 'file').write_text('')
    assert words in here.refusal('search.py', *TINY, '--steps', 1, *args)
    assert not (here.folder / 'work_dirs').exists()


def test_a_search_that_measured_nothing_has_no_result(here):
    here.folder.joinpath('same').mkdir()
    for i in range(4):
        Image.new('RGB', (32, 32), 'red').save(here.folder / 'same' / f'{i}.png')
    line = here.refusal('search.py', '--data', 'same', '--work-dir', 'run', '--steps', 2, *TINY)
    assert 'no network of the 2 steps could be measured (ntk_condition_number: network 1' in line
    assert not (here.folder / 'run' / 'result.json').exists()


def test_a_config_that_cannot_be_written_for_is_refused_before_measuring(here):
    (here.folder / 'part.py').write_text(
        'data_preprocessor = dict(num_classes=3)\ntrain_cfg = dict(max_epochs=3)\n'
    )
    line = here.refusal('search.py', '--data', 'part.py', '--steps', 1, *TINY)
    assert "but no 'optim_wrapper'" in line


def test_digits_that_cannot_be_written(here):
    (here.folder / 'data').write_text('')
    line = here.refusal('search.py', '--data', 'digits', '--steps', 1, *TINY)
    assert "the digits cannot be written to 'data/digits'" in line


@pytest.mark.parametrize('name', ['search.py', 'scale.py'])
def test_help_is_cheap(name):
    begin = time.perf_counter()
    code = (
        'import runpy, sys; sys.argv[1:] = ["-h"]\n'
        'try: runpy.run_path(sys.argv[0], run_name="__main__")\n'
        'except SystemExit: pass\n'
        'assert "torch" not in sys.modules and "numpy" not in sys.modules'
    )
    code = f'import sys; sys.argv[0] = {str(TOOLS / name)!r}\n{code}'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert '--img-size' in done.stdout
    assert time.perf_counter() - begin < 10
