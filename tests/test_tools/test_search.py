"""tools/search.py: what it writes, determinism, resuming, and the lines of its refusals."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from asvit_mm.arch import as_architecture
from asvit_mm.cost import count_macs, count_params
from asvit_mm.ops import attention
from asvit_mm.runs.scale import read_topology
from asvit_mm.runs.search import run_search
from asvit_mm.runs.settings import SearchSettings

from .kills import cut, files, stopped
from .runs import TINY, TOOLS, tool

STEPS = 4
RUN = ('--work-dir', 'run', '--data', 'digits', '--steps', STEPS, *TINY)


def records(work_dir):
    lines = (work_dir / 'trace.jsonl').read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A folder with a finished search in run/, and the process."""
    folder = tmp_path_factory.mktemp('search')
    done = tool('search.py', *RUN, cwd=folder)
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
    assert (result['steps'], len(records(folder / 'run'))) == (STEPS, STEPS)
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
def copied(finished, here):
    """The finished search in run/ of this test's own folder."""
    shutil.copytree(finished[0] / 'run', here.folder / 'run')
    return here.folder / 'run'


def test_overwrite_and_another_seed(finished, copied, here):
    args = ('--work-dir', 'run', '--steps', 1, '--data', 'digits', *TINY)
    before = files(copied)
    line = here.refusal('search.py', *args, '--seed', 1)
    assert line.startswith('error: run/run.json exists already: give --resume')
    assert files(copied) == before
    here.run('search.py', *args, '--seed', 1, '--overwrite')
    assert records(copied) != records(finished[0] / 'run')[:1]
    names = sorted(path.name for path in (copied / 'configs').iterdir())
    result = json.loads((copied / 'result.json').read_text())
    assert len(names) == 2 * len({result['config'], *(one['config'] for one in result['front'])})
    assert re.fullmatch(r'asvit-[\d.]+m-[\d.]+mf_b64_digits\.py', names[0])
    assert re.fullmatch(r'mask-rcnn_asvit-[\d.]+m-[\d.]+mf_fpn_1x_coco\.py', names[-1])


@pytest.mark.parametrize(
    ('key', 'value'), [('arch', '8,2,3|4,1,2|4,1,4|4,1,6|32'), ('params', 7), ('config', 'x.py')]
)
def test_an_altered_result_is_not_believed(copied, here, key, value):
    """Neither by the search itself nor as a seed to scale."""
    file = copied / 'result.json'
    result = {**json.loads(file.read_text()), key: value}
    file.write_text(json.dumps(result))
    line = here.refusal('search.py', *RUN, '--resume')
    assert f'run/result.json is not what this run gives ({key} is {value!r} there' in line
    if key == 'params':
        assert 'was changed: 7 are not the parameters of' in here.refusal('scale.py', file)
    file.unlink()
    here.run('search.py', *RUN, '--resume')
    assert json.loads(file.read_text())[key] != value


def test_a_result_that_is_none(here):
    for text in ('[]', '{}', '{"arch": 3}', '{"arch": ' + '[' * 5000, 'text'):
        (here.folder / 'result.json').write_text(text)
        assert 'give the result.json of a search' in here.refusal('scale.py', 'result.json')
    os.mkfifo('fifo.json')
    assert 'fifo.json is a FIFO' in here.refusal('scale.py', 'fifo.json')
    os.mkdir('folder.json')
    assert 'Is a directory' in here.refusal('scale.py', 'folder.json')


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['--data', 'nowhere'], "no data at 'nowhere'"),
        (['--data', 'digits', '--batch-size', '2000'], 'holds 1437 images and 2000 are needed'),
        (['--batch-size', '1'], '--batch-size 1 is too small'),
        (['--img-size', '100000'], '--img-size 100000 is too large: give at most 2048'),
        (['--img-size', '2048', '--repeat', '90'], 'are more than fit into memory: give a smaller'),
        (['--steps', '10000000000'], '--steps 10000000000 is too large'),
        (['--seed', '4294967296'], '--seed 4294967296 is too large'),
        (['--steps', '0'], '--steps 0 is too small'),
        (['--device', 'gpu'], "--device 'gpu' is no device"),
        (['--device', 'cuda:99'], "'cuda:99' is not there"),
        (['--work-dir', 'file/run'], "'file/run' cannot be written"),
        (['--max-params', 'many'], "'many' is not a number of parameters"),
        (['--max-flops', '0'], "'0' is not a number of multiply-adds"),
        (['--max-latency', 'nan'], '--max-latency nan is no limit: give milliseconds'),
        (['--max-latency', '-1'], '--max-latency -1 is no limit: give milliseconds'),
        (['--finalists', '2'], "'photographs' has no labels to train on"),
        (['--finalists', '1'], '--finalists 1 is too small: give at least 2'),
        (['--race-minutes', '0'], '--race-minutes 0.0 is no time'),
        (['--max-params', '500k'], '--max-params 500,000 is less than the smallest seed has'),
        (['--max-flops', '1M'], '--max-flops 1,000,000 is less than the smallest seed has'),
        (['--max-latency', '1e-3'], '--max-latency 0.001 is less than the smallest seeds take'),
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
    run = ('--data', 'same', '--work-dir', 'run', '--steps', 2, *TINY)
    with pytest.raises(SystemExit, match='2'):
        here.run('search.py', *run)
    warning, line = here.capsys.readouterr().err.splitlines()
    assert warning.startswith('warning: images 0 and 1 of the batch of network 1 are identical')
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
    assert "digits cannot be written to 'data/digits'" in line


@pytest.mark.parametrize(
    'name',
    ['search.py', 'scale.py', 'analysis_tools/measure.py', 'analysis_tools/correlate.py'],
)
def test_help_is_cheap(name):
    code = (
        f'import runpy, sys; sys.argv[:] = [{str(TOOLS / name)!r}, "-h"]\n'
        'try: runpy.run_path(sys.argv[0], run_name="__main__")\n'
        'except SystemExit: pass\n'
        'assert not {"torch", "numpy", "mmengine"} & set(sys.modules)'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert '--img-size' in done.stdout


@pytest.mark.slow
def test_killed_interrupted_and_resumed(finished, tmp_path):
    folder, _ = finished
    run, trace = ('search.py', *RUN), tmp_path / 'run' / 'trace.jsonl'
    status, _ = stopped(*run, cwd=tmp_path, trace=trace, lines=1, signal=signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert 1 <= len(records(tmp_path / 'run')) < STEPS
    kept = trace.read_bytes()
    kept = kept[: kept.rfind(b'\n') + 1]

    status, errors = stopped(
        *run, '--resume', cwd=tmp_path, trace=trace, lines=kept.count(b'\n') + 1,
        signal=signal.SIGINT,
    )  # fmt: skip
    done = records(tmp_path / 'run')
    assert status == 130
    assert trace.read_bytes().startswith(kept)
    line, command = errors.rstrip('\n').split('; go on with: ')
    assert line == (
        f'interrupted after {len(done)} of {STEPS} steps, what it found is in run/so_far.json'
    )
    assert not (tmp_path / 'run' / 'result.json').exists()
    so_far = json.loads((tmp_path / 'run' / 'so_far.json').read_text())
    assert so_far['arch'] == done[-1]['best']
    assert so_far['steps'] == len(done)
    assert f"arch='{so_far['arch']}'" in (tmp_path / 'run' / so_far['config']).read_text()
    assert (tmp_path / 'run' / so_far['detection_config']).exists()
    assert str(read_topology(str(tmp_path / 'run' / 'so_far.json'))) == so_far['arch']

    again = subprocess.run(
        command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert f'resumed: {len(done)} of {STEPS} steps are done' in again.stdout
    assert files(tmp_path / 'run') == files(folder / 'run')


@pytest.mark.slow
def test_a_run_goes_on_with_another_attention_kernel(copied, here):
    """What the trace has is taken from it, although it would not be measured to the last digit again."""
    trace = (copied / 'trace.jsonl').read_bytes()
    kept = trace[: trace.index(b'{"step": 2')]
    cut(copied, len(kept))
    done = subprocess.run(
        [sys.executable, TOOLS / 'search.py', *map(str, RUN), '--resume'],
        cwd=here.folder, capture_output=True, text=True, check=True,
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'ASVIT_MM_NATIVE': '0'},
    )  # fmt: skip
    assert f'resumed: 2 of {STEPS} steps are done' in done.stdout
    again = (copied / 'trace.jsonl').read_bytes()
    assert again.startswith(kept)
    assert again.count(b'\n') == STEPS
    result = json.loads((copied / 'result.json').read_text())
    if attention.has_kernel():
        assert result['attention_kernel'] == 'asvit_mm'
        assert 'kernel of asvit_mm and goes on with that of torch' in done.stdout


def test_interrupted_at_the_end(finished, here, monkeypatch):
    """After the last step, where the best is measured and pictures are drawn."""
    settings = SearchSettings(
        work_dir='run', data='digits', img_size=32, batch_size=4, repeat=1, steps=STEPS,
        device='cpu', resume=True,
    )  # fmt: skip

    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr('asvit_mm.runs.search.plot_search', interrupt)
        with pytest.raises(
            KeyboardInterrupt,
            match=rf'{STEPS} of {STEPS} steps, what it found is in run/so_far\.json',
        ):
            run_search(settings, TOOLS)
    assert 'run holds no run yet: this one starts from scratch' in here.capsys.readouterr().out
    so_far = json.loads((here.folder / 'run' / 'so_far.json').read_text())
    result = json.loads((finished[0] / 'run' / 'result.json').read_text())
    assert (so_far['arch'], so_far['steps']) == (result['arch'], STEPS)
    assert str(run_search(settings, TOOLS).architecture) == result['arch']
    assert files(here.folder / 'run') == files(finished[0] / 'run')


def test_a_trace_cut_anywhere(finished, copied, here):
    cut(copied, int(0.7 * (copied / 'trace.jsonl').stat().st_size))
    here.run('search.py', *RUN, '--resume')
    assert files(copied) == files(finished[0] / 'run')


def test_a_finished_search_is_not_done_again(finished, copied, here):
    out = here.run('search.py', *RUN, '--resume')
    assert 'the run in run is complete' in out
    assert json.loads((copied / 'result.json').read_text())['arch'] in out
    assert out.splitlines()[-6:-2] == finished[1].stdout.splitlines()[-6:-2]
    assert files(copied) == files(finished[0] / 'run')


def test_what_is_not_resumed(finished, copied, here):
    line = here.refusal('search.py', *RUN, '--resume', '--steps', 9)
    assert f'settings.steps is {STEPS} there and 9 here' in line
    assert 'give one' in here.refusal('search.py', *RUN, '--resume', '--overwrite')
    assert files(copied) == files(finished[0] / 'run')


@pytest.mark.parametrize(
    ('name', 'old', 'new', 'words'),
    [
        ('trace.jsonl', '"reward": 0.0', '"reward": 0.5', 'reward is 0.5 there and 0.0 here'),
        ('run.json', '"format": 4', '"format": 2', 'format is 2 there and 4 here'),
        ('run.json', '"torch": "', '"torch": "1', 'versions.torch is '),
    ],
)
def test_altered_state(copied, here, name, old, new, words):
    cut(copied, (copied / 'trace.jsonl').stat().st_size)
    text = (copied / name).read_text()
    assert old in text
    (copied / name).write_text(text.replace(old, new, 1))
    assert words in here.refusal('search.py', *RUN, '--resume')
    assert not (copied / 'result.json').exists()


LIMITS = ('--max-params', '2.2M', '--max-flops', '6M', '--max-latency', 10_000)


@pytest.mark.slow
def test_limits_are_kept(here):
    run = ('--work-dir', 'run', '--data', 'digits', '--steps', 3, '--method', 'evolution')
    out = here.run('search.py', *run, *LIMITS, *TINY)
    result = json.loads((here.folder / 'run' / 'result.json').read_text())
    assert result['params'] <= 2_200_000
    assert result['macs'] <= 6_000_000
    assert 0 < result['latency_ms'] <= 10_000
    assert f'{result["latency_ms"]:g} ms per image' in out
    assert result['settings']['max_params'] == 2_200_000
    assert result['settings']['max_flops'] == 6_000_000
    for record in records(here.folder / 'run'):
        arch = as_architecture(record['arch'])
        assert count_params(arch, 10, img_size=32) <= 2_200_000
        assert count_macs(arch, 32, 10) <= 6_000_000
        assert record['latency_ms'] > 0
    # Latencies are never the same twice: those of the trace are taken over.
    trace = (here.folder / 'run' / 'trace.jsonl').read_bytes()
    cut(here.folder / 'run', len(trace) - 1)
    here.run('search.py', *run, *LIMITS, *TINY, '--resume')
    again = (here.folder / 'run' / 'trace.jsonl').read_bytes()
    kept = trace[: trace[:-1].rfind(b'\n') + 1]
    assert again.startswith(kept)
    assert again.count(b'\n') == 3
