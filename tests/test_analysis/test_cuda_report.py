"""The CUDA report on a CPU: every part once, and rows that fail, crash or take too long."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from asvit_mm.analysis.cuda_report import report as report_module
from asvit_mm.analysis.cuda_report import training
from asvit_mm.analysis.cuda_report.aims import aims
from asvit_mm.analysis.cuda_report.report import Report, as_markdown
from asvit_mm.analysis.cuda_report.rows import Context, Job, Skipped, check
from asvit_mm.analysis.cuda_report.settings import PARTS, CudaReportSettings
from asvit_mm.errors import InputError

from ..test_tools.runs import tool

CONTENT = {'settings': {'device': 'cpu', 'quick': True}, 'began': 0.0, 'seconds': 1.0}


def new_report(folder, *rows, ends=60.0):
    report = Report(folder)
    report.content = {**CONTENT, 'ends': time.time() + ends, 'rows': list(rows)}
    report.save()
    return report


def start(*words):
    return subprocess.Popen(words, start_new_session=True)


def running_row(limit):
    row = {'part': 'fast', 'table': 'models', 'name': 'swin', 'status': 'running'}
    return {**row, 'began': time.time(), 'limit': limit}


@pytest.mark.slow
def test_all_parts_in_a_rehearsal(tmp_path):
    rng = np.random.default_rng(0)
    for split in ('train', 'test'):
        for label in range(10):
            folder = tmp_path / 'images' / split / f'class{label}'
            folder.mkdir(parents=True)
            for i in range(2):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f'{i}.png')
    words = ('--device', 'cpu', '--quick', '--out', 'report', '--cifar10', 'images')
    done = tool('analysis_tools/cuda_report.py', *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / 'report/report.json').read_text())
    assert sorted(path.name for path in (tmp_path / 'report').iterdir()) == [
        'report.json',
        'report.md',
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ['images', 'report']
    rows = found['rows']
    assert {row['part'] for row in rows} == set(PARTS)
    wrong = [row for row in rows if row['status'] not in ('passed', 'measured', 'skipped')]
    assert not wrong
    assert all(row['torch'] and row['device'] for row in rows)
    strides = {r['name']: r['steps_at_16_8_4'] for r in rows if 'steps_at_16_8_4' in r}
    assert strides['full grid'][:2] == [0, 0]
    assert all(strides['progressive tokenization 80-140'])
    assert (tmp_path / 'report/report.md').read_text() in done.stdout


@pytest.mark.parametrize('form', ['folder', 'npz'])
def test_a_rehearsal_reads_some_images_of_each_class(tmp_path, monkeypatch, form):
    """The first ones, whether the images lie in class folders or, mixed, in one file."""
    monkeypatch.setattr(training, 'QUICK_IMAGES', 2)
    bodies, labels = [], [0, 1, 1, 0, 1, 0, 1]
    for split in ('train', 'test'):
        bodies.clear()
        for i, label in enumerate(labels):
            folder = tmp_path / 'images' / split / f'class{label}'
            folder.mkdir(parents=True, exist_ok=True)
            Image.new('RGB', (32, 32), (30 * i,) * 3).save(folder / f'{i}.png')
            bodies.append((folder / f'{i}.png').read_bytes())
    data = {'header': np.frombuffer(b'', np.uint8)}
    for split in ('train', 'test'):
        data[f'{split}_data'] = np.frombuffer(b''.join(bodies), np.uint8)
        data[f'{split}_offsets'] = np.cumsum([0, *map(len, bodies)])
        data[f'{split}_labels'] = np.array(labels)
    np.savez(tmp_path / 'images.npz', **data)
    path = str(tmp_path / ('images' if form == 'folder' else 'images.npz'))
    for quick, expected in ((True, [(0, 0), (0, 90), (1, 30), (1, 60)]), (False, 7)):
        context = Context('cpu', quick, tmp_path, path)
        for images in training._Cifar10(context).splits:
            found = sorted(
                zip(images.labels.tolist(), images.pixels[:, 0, 0, 0].tolist(), strict=True)
            )
            assert (found if quick else len(found)) == expected


def test_a_dead_process_is_a_row_and_the_next_one_goes_on(tmp_path):
    script = (
        'import json, sys; path = sys.argv[1]; content = json.load(open(path)); '
        f'content["rows"].append({running_row(60.0)!r}); json.dump(content, open(path, "w")); '
        'sys.exit(9)'
    )
    report = new_report(tmp_path)
    process = start(sys.executable, '-c', script, str(report.path))
    assert report_module._supervise(process, tmp_path)
    (row,) = Report(tmp_path).rows
    assert row['status'] == 'crashed'
    assert 'status 9' in row['note']
    # A process that dies before its first row is not tried again.
    assert not report_module._supervise(start('false'), tmp_path)


def test_a_row_that_hangs_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(report_module, 'GRACE', 0.2)
    new_report(tmp_path, running_row(0.1))
    began = time.time()
    report_module._supervise(start('sleep', '60'), tmp_path)
    assert time.time() - began < 30
    assert Report(tmp_path).rows[0]['status'] == 'crashed'


def test_what_goes_wrong_in_a_row_is_its_status():
    def fail():
        raise ValueError('no such kernel\nmore')

    def skip():
        raise Skipped('no images')

    def status(run, limit=5.0):
        return report_module._measured(Job('table', 'row', run), limit)

    assert status(fail) == {'status': 'error', 'note': 'ValueError: no such kernel'}
    assert status(skip) == {'status': 'skipped', 'note': 'no images'}
    assert status(lambda: time.sleep(5), limit=0.1)['status'] == 'out of time'
    assert status(lambda: {'ms': 1.0}) == {'ms': 1.0, 'status': 'measured'}
    assert status(lambda: check(1e-3, 1e-2))['status'] == 'passed'
    assert status(lambda: check(float('nan'), 1e-2))['status'] == 'failed'


def test_tables(tmp_path):
    row = {'part': 'fast', 'table': 'models', 'device': 'cpu', 'torch': '2', 'seconds': 0.5}
    report = new_report(
        tmp_path,
        {**row, 'name': 'a|b', 'status': 'measured', 'images_per_s': 12345.6},
        {**row, 'name': 'c', 'status': 'error', 'note': 'out of memory'},
        {**row, 'name': 'd', 'status': 'failed', 'difference': float('nan')},
    )
    page = as_markdown(report.content)
    assert '| a\\|b | measured | 12346 |  | 0.5 |  |' in page
    assert '| c | error |  |  | 0.5 | out of memory |' in page
    assert json.loads(report.path.read_text())['rows'][2]['difference'] == 'nan'


def test_aims():
    table = 'inference, bfloat16 autocast, compiled, batch 256'
    rates = {'small': 130.0, 'timm:swin_tiny_patch4_window7_224': 100.0, 'timm:vit_small': 200.0}
    rows = [{'table': table, 'name': n, 'TMAC_per_s': r, 'ms': 1.0} for n, r in rates.items()]
    rows += [{'table': 'runs', 'name': name, 'whole_run_s': 301.0} for name in 'ab']
    found = {aim['aim']: (aim['found'], aim['reached']) for aim in aims(rows)}
    prefix = 'compiled inference, batch 256: TMAC/s of '
    assert found[prefix + 'small / swin_tiny'] == (1.3, True)
    assert found[prefix + 'small / vit_small'] == (0.65, False)
    assert found[prefix + 'base / swin_small'] == (None, None)
    assert found['published search and scaling, s'] == (602.0, False)


def test_refusals(tmp_path):
    with pytest.raises(InputError, match='--minutes 0 is no time limit'):
        CudaReportSettings(device='cpu', minutes=0)
    with pytest.raises(InputError, match='is not there'):
        CudaReportSettings(device='cpu', cifar10=str(tmp_path / 'none')).check()
    new_report(tmp_path)
    with pytest.raises(InputError, match='give another folder'):
        CudaReportSettings(device='cpu', out=str(tmp_path)).check()
