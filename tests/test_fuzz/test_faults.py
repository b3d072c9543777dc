"""Processes that are killed at random instants, and disks that are full: resumed, the files are the same."""

import os
import random
import resource
import subprocess
import sys

import pytest

from ..test_checkpoints.test_doors import CONFIG
from ..test_tools.kills import files
from ..test_tools.runs import PROCESSES, TINY, TOOLS, _run, write_images

pytestmark = pytest.mark.slow
RUNS = {
    'search': ['search.py', '--data', 'digits', '--steps', '6', *TINY],
    'scale': ['scale.py', 'seed', '--data', 'digits', '--min-params', '4M', '--max-params', '9M', *TINY],
}  # fmt: skip
KILLS = 8


def words(name, work_dir, *more):
    script, *args = RUNS[name]
    return [str(TOOLS / script), *args, '--work-dir', work_dir, *more]


def started(argv, folder):
    process = PROCESSES.Process(target=_run, args=(argv, folder))
    process.start()
    return process


@pytest.mark.parametrize('name', RUNS)
def test_killed_at_random_instants(tmp_path, name):
    process = started(words(name, 'whole'), tmp_path)
    process.join(300)
    assert process.exitcode == 0, (tmp_path / 'output.txt').read_text()
    rng, killed = random.Random(name), 0
    for _ in range(4 * KILLS):
        process = started(words(name, 'cut', '--resume'), tmp_path)
        process.join(rng.uniform(0.2, 4.0))
        if process.exitcode is None:
            process.kill()
            process.join()
            killed += 1
        if killed == KILLS or (tmp_path / 'cut/result.json').exists():
            break
    assert killed > 0
    process = started(words(name, 'cut', '--resume'), tmp_path)
    process.join(300)
    assert process.exitcode == 0, (tmp_path / 'output.txt').read_text()
    assert files(tmp_path / 'cut') == files(tmp_path / 'whole')


def limited(argv, folder, size):
    """Run a tool that can write no file of more than ``size`` bytes: status and stderr."""
    done = subprocess.run(
        [sys.executable, *argv],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONDONTWRITEBYTECODE': '1'},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )
    return done.returncode, done.stderr


def refused_for_room(status, errors):
    assert status == 2, errors
    assert 'Traceback' not in errors
    line = errors.strip().splitlines()[-1]
    assert line.startswith('error: ')
    assert 'File too large' in line or 'No space left' in line


def test_a_search_whose_disk_is_full(tmp_path):
    process = started(words('search', 'whole'), tmp_path)
    process.join(300)
    assert process.exitcode == 0
    trace = (tmp_path / 'whole/trace.jsonl').stat().st_size
    # Nothing at all, in the midst of the trace, a picture.
    for number, size in enumerate((0, max(1500, trace // 2), trace + 1000)):
        work_dir = f'full{number}'
        refused_for_room(*limited(words('search', work_dir, '--resume'), tmp_path, size))
        process = started(words('search', work_dir, '--resume'), tmp_path)
        process.join(300)
        assert process.exitcode == 0, (tmp_path / 'output.txt').read_text()
        assert files(tmp_path / work_dir) == files(tmp_path / 'whole')


def test_a_training_whose_disk_is_full(tmp_path):
    """The second checkpoint finds no room; what is left is resumed."""
    write_images(tmp_path)
    (tmp_path / 'config.py').write_text(CONFIG)
    argv = [str(TOOLS / 'train.py'), 'config.py', '--work-dir', 'w', '--resume']
    refused_for_room(*limited(argv, tmp_path, 200_000))
    process = started(argv, tmp_path)
    process.join(300)
    assert process.exitcode == 0, (tmp_path / 'output.txt').read_text()
    assert (tmp_path / 'w/epoch_2.pth').stat().st_size > 200_000


def test_a_small_file_system(tmp_path):
    """A real one, where the machine allows to mount it."""
    disk = tmp_path / 'disk'
    disk.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=32k', 'tmpfs', str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip('may not mount')
    try:
        refused_for_room(*limited(words('search', 'disk/run', '--resume'), tmp_path, 10**9))
        grown = ['mount', '-o', 'remount,size=64m', str(disk)]
        assert subprocess.run(grown, capture_output=True).returncode == 0
        process = started(words('search', 'disk/run', '--resume'), tmp_path)
        process.join(300)
        assert process.exitcode == 0, (tmp_path / 'output.txt').read_text()
        assert (disk / 'run/result.json').exists()
    finally:
        subprocess.run(['umount', str(disk)], check=True)
