"""tools/analysis_tools/correlate.py: a tiny study, killed and resumed, over two processes, refused."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from .runs import TOOLS, Here, ended, tool, torchrun, write_images

STUDY = [
    '--data', 'images', '--img-size', '16', '--num-archs', '4', '--strata', '2', '--epochs', '1',
    '--measures', 'params', 'length_distortion', '--repeat', '1', '--batch-size', '2',
    '--device', 'cpu',
]  # fmt: skip


def records(work_dir):
    """Of each architecture, without the seconds."""
    found = {}
    for path in sorted((work_dir / 'records').iterdir()):
        found[path.name] = json.loads(path.read_text())
        del found[path.name]['seconds']
    return found


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A folder with images and a finished study in run/, and the process."""
    folder = tmp_path_factory.mktemp('correlate')
    write_images(folder)
    done = tool('analysis_tools/correlate.py', '--work-dir', 'run', *STUDY, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture
def here(monkeypatch, capsys, tmp_path):
    write_images(tmp_path)
    return Here(monkeypatch, capsys, tmp_path)


def test_study(finished):
    folder, done = finished
    report = json.loads((folder / 'run' / 'report.json').read_text())
    assert [m['name'] for m in report['measures']] == ['length_distortion', 'params']
    assert [m['top1']['n'] for m in report['measures']] == [4, 4]
    assert len(report['records']) == len(records(folder / 'run')) == 4
    assert len({record['arch'] for record in report['records']}) == 4
    assert sorted(record['stratum'] for record in report['records']) == [0, 0, 1, 1]
    for record in report['records']:
        assert 0 <= record['trained']['top1'] <= 100
        assert record['trained']['val_loss'] > 0
        assert record['measures']['length_distortion']['value'] > 0
        assert record['seconds']['training'] > 0
    assert (folder / 'run' / 'scatter.png').stat().st_size > 10_000
    page = (folder / 'run' / 'report.md').read_text()
    assert '--num-archs 4 --strata 2 --epochs 1 --data images --img-size 16' in page
    assert 'published' in done.stdout
    assert 'Epoch(' not in done.stdout + done.stderr
    assert 'Epoch(' in (folder / 'run' / 'logs' / '003.log').read_text()
    assert not list(folder.rglob('*.pth'))
    assert not list((folder / 'run' / 'training').iterdir())


def test_a_finished_study_is_reported_again_without_training(finished, here):
    folder, _ = finished
    here.monkeypatch.chdir(folder)
    before = (folder / 'run' / 'report.json').read_text()
    out = here.run('analysis_tools/correlate.py', '--work-dir', 'run', *STUDY, '--resume')
    assert 'resumed: 4 of 4 architectures are done' in out
    assert (folder / 'run' / 'report.json').read_text() == before


@pytest.mark.slow
def test_killed_and_resumed(finished):
    folder, _ = finished
    command = [
        sys.executable,
        str(TOOLS / 'analysis_tools/correlate.py'),
        '--work-dir',
        'killed',
        *STUDY,
    ]
    process = subprocess.Popen(
        command, cwd=folder, env={**os.environ, 'OMP_NUM_THREADS': '1'}, stdout=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 120
        while not (folder / 'killed' / 'records' / '000.json').exists():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert not (folder / 'killed' / 'report.json').exists()
    assert 1 <= len(records(folder / 'killed')) < 4
    kept = (folder / 'killed' / 'records' / '000.json').read_bytes()
    again = tool(
        'analysis_tools/correlate.py', '--work-dir', 'killed', *STUDY, '--resume', cwd=folder
    )
    assert again.returncode == 0, again.stderr
    assert 'of 4 architectures are done' in again.stdout
    assert (folder / 'killed' / 'records' / '000.json').read_bytes() == kept
    assert records(folder / 'killed') == records(folder / 'run')
    settings = [(folder / name / 'study.json').read_bytes() for name in ('run', 'killed')]
    assert settings[0] == settings[1]


@pytest.mark.slow
def test_over_two_processes(finished):
    folder, _ = finished
    status, out, err = ended(
        torchrun('analysis_tools/correlate.py', '--work-dir', 'two', *STUDY, cwd=folder)
    )
    assert status == 0, err
    assert records(folder / 'two') == records(folder / 'run')
    assert out.count('published') == 1
    assert (folder / 'two' / 'report.json').is_file()


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['--data', 'noise'], "'noise' has no labels"),
        (['--data', 'nowhere'], "no data at 'nowhere'"),
        (['--measures', 'luck'], "--measures 'luck' is not known: give all or some of"),
        (['--num', '2'], '--num 2 is too small'),
        (['--strata', '5'], 'give from 1 to 4 strata'),
        (['--epochs', '0'], '--epochs 0 is too small'),
        (['--workers', '-1'], '--workers -1 is too small'),
        (['--batch-size', '100'], 'images and 100 are needed'),
        (['--device', 'gpu'], "--device 'gpu' is no device"),
        (['--launcher', 'pytorch'], 'without RANK in the environment'),
        (['--work-dir', 'file/run'], 'cannot be written'),
        (['--resume', '--overwrite'], 'give one'),
    ],
)
def test_refusals(here, args, words):
    here.monkeypatch.delenv('RANK', raising=False)
    (here.folder / 'file').write_text('')
    assert words in here.refusal('analysis_tools/correlate.py', *STUDY, *args)
    assert not (here.folder / 'work_dirs').exists()


def test_another_study_in_the_folder(finished, here):
    folder, _ = finished
    here.monkeypatch.chdir(folder)
    before = records(folder / 'run')
    run = ('analysis_tools/correlate.py', '--work-dir', 'run', *STUDY)
    assert 'exists already: give --resume' in here.refusal(*run)
    line = here.refusal(*run, '--resume', '--epochs', '2')
    assert 'settings.epochs is 1 there and 2 here' in line
    assert records(folder / 'run') == before


def test_help_waits_for_nothing_heavy():
    script = (
        'import runpy, sys\n'
        f'sys.argv = [{str(TOOLS / "analysis_tools/correlate.py")!r}, "-h"]\n'
        'try:\n'
        '    runpy.run_path(sys.argv[0], run_name="__main__")\n'
        'except SystemExit as done:\n'
        '    assert done.code == 0\n'
        'assert not {"torch", "mmengine", "numpy"} & set(sys.modules)\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', script], capture_output=True, text=True, check=True
    )
    for flag in ('--num', '--epochs', '--measures', '--resume', '--launcher'):
        assert flag in done.stdout
