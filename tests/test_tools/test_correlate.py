"""tools/analysis_tools/correlate.py: a tiny study, killed and resumed, over two processes, refused."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from .runs import TOOLS, Here, ended, torchrun, write_images

TOOL = 'analysis_tools/correlate.py'
STUDY = [
    '--data', 'images', '--img-size', '16', '--num-archs', '4', '--strata', '2', '--epochs', '1',
    '--measures', 'params', 'length_distortion', '--repeat', '1', '--batch-size', '2',
    '--device', 'cpu',
]  # fmt: skip


def records(work_dir):
    return {path.name: path.read_bytes() for path in (work_dir / 'records').glob('*.json')}


@pytest.fixture
def here(monkeypatch, capsys, tmp_path):
    write_images(tmp_path)
    return Here(monkeypatch, capsys, tmp_path)


@pytest.fixture(scope='module')
def killed(tmp_path_factory):
    """A folder with a study in run/ that was killed after its first record."""
    folder = tmp_path_factory.mktemp('killed')
    write_images(folder)
    command = [sys.executable, TOOLS / TOOL, '--work-dir', 'run', *STUDY]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 120
        while not records(folder / 'run'):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    return folder


@pytest.mark.slow
def test_killed_and_resumed(killed, monkeypatch, capsys):
    here = Here(monkeypatch, capsys, killed)
    run = killed / 'run'
    kept = records(run)
    assert 1 <= len(kept) < 4
    assert not (run / 'report.json').exists()
    out = here.run(TOOL, '--work-dir', 'run', *STUDY, '--resume')
    assert f'resumed: {len(kept)} of 4 are done' in out
    assert '| length distortion | higher |' in out
    assert 'Epoch(' not in out
    assert records(run).items() >= kept.items()
    check_study(run)

    # A finished study is reported again, without training.
    before = (run / 'report.json').read_text()
    out = here.run(TOOL, '--work-dir', 'run', *STUDY, '--resume')
    assert 'resumed: 4 of 4 are done' in out
    assert (run / 'report.json').read_text() == before
    line = here.refusal(TOOL, '--work-dir', 'run', *STUDY, '--resume', '--epochs', '2')
    assert 'settings.epochs is 1 there and 2 here' in line


@pytest.mark.slow
def test_over_two_processes(killed):
    status, out, err = ended(torchrun(TOOL, '--work-dir', 'two', *STUDY, cwd=killed))
    assert status == 0, err
    assert out.count('| length distortion |') == 1
    assert len(records(killed / 'two')) == 4
    assert records(killed / 'two').items() >= records(killed / 'run').items()
    studies = [(killed / name / 'study.json').read_bytes() for name in ('run', 'two')]
    assert studies[0] == studies[1]


def check_study(work_dir):
    report = json.loads((work_dir / 'report.json').read_text())
    assert [(m['name'], m['n']) for m in report['measures']] == [
        ('params', 4), ('length_distortion', 4),
    ]  # fmt: skip
    assert len({record['name'] for record in report['records']}) == 4
    for record in report['records']:
        assert 0 <= record['top1'] <= 100
        assert record['measures']['length_distortion'] > 0
        assert 0 < record['measures']['params'] < record['params']
        log = work_dir / 'logs' / f'{record["name"].replace("|", "_")}.log'
        assert 'Epoch(' in log.read_text()
    assert (work_dir / 'scatter.png').stat().st_size > 10_000
    page = (work_dir / 'report.md').read_text()
    assert '--data images --img-size 16' in page
    assert '--num-archs 4 --strata 2 --epochs 1' in page
    assert not list(work_dir.rglob('*.pth'))
    assert not list((work_dir / 'training').iterdir())


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['--data', 'noise'], "'noise' has no labels"),
        (['--data', 'nowhere'], "no data at 'nowhere'"),
        (['--measures', 'luck'], "unknown measure 'luck': choose from"),
        (['--num', '2'], '--num-archs 2 is too small'),
        (['--strata', '5'], 'give from 1 to 4 strata'),
        (['--epochs', '0'], '--epochs 0 is too small'),
        (['--batch-size', '100'], 'images and 100 are needed'),
        (['--launcher', 'pytorch'], 'without RANK in the environment'),
        (['--work-dir', 'file/run'], 'cannot be written'),
    ],
)
def test_refusals(here, args, words):
    here.monkeypatch.delenv('RANK', raising=False)
    (here.folder / 'file').write_text('')
    assert words in here.refusal(TOOL, *STUDY, *args)
    assert not (here.folder / 'work_dirs').exists()
