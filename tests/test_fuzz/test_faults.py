"""Processes that are killed at random instants, and disks that are full: resumed, the files are the same."""

import contextlib
import json
import os
import random
import resource
import subprocess
import sys

import pytest
import torch

from asvit_mm.arch import as_architecture
from asvit_mm.config_writer.configs import config_text
from asvit_mm.data.image_sets import DIGITS, write_image_set
from asvit_mm.data.source import describe_data

from ..test_checkpoints.test_doors import CONFIG
from ..test_tools.kills import files
from ..test_tools.runs import PROCESSES, TINY, TOOLS, _run, write_images

pytestmark = pytest.mark.slow
TINY_NETWORK = '4,2,2|2,1,2|2,1,2|2,1,2|16'
SMALL = ' '.join(
    f'{part}_dataloader.{setting}' for part in ('train', 'val')
    for setting in ('dataset.indices=192', 'num_workers=0', 'persistent_workers=False')
)  # fmt: skip
RUNS = {
    'search': ['search.py', '--data', 'digits', '--steps', '6', *TINY],
    'scale': ['scale.py', 'seed', '--data', 'digits', '--min-params', '4M', '--max-params', '9M', *TINY],
    'correlate': [
        'analysis_tools/correlate.py', '--data', 'images', '--num-archs', '6', '--epochs', '1', '--measures',
        'params', 'length_distortion', '--repeat', '1', '--img-size', '16', '--batch-size', '2',
        '--device', 'cpu',
    ],
    'train': [
        'train.py', 'config.py', '--cfg-options', *SMALL.split(), 'train_cfg.max_epochs=6',
        'default_hooks.logger.interval=1',
    ],
}  # fmt: skip
# The last file that a run writes, and how often it is killed.
ENDS = {
    'search': ('result.json', 8),
    'scale': ('result.json', 8),
    'correlate': ('report.html', 5),
    'train': ('epoch_6.pth', 6),
}


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    return write_image_set(DIGITS, tmp_path_factory.mktemp('data') / 'digits').parent


@pytest.fixture
def place(tmp_path, digits):
    """Makes folders with the data, in which runs have the same relative paths."""

    def make(name):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        if not (folder / 'data').exists():
            (folder / 'data').symlink_to(digits)
        return folder

    return make


def words(name):
    script, *args = RUNS[name]
    return [str(TOOLS / script), *map(str, args), '--work-dir', 'run', '--resume']


def started(argv, folder):
    process = PROCESSES.Process(target=_run, args=(argv, folder))
    process.start()
    return process


def completed(argv, folder):
    """Everything that an undisturbed run leaves."""
    process = started(argv, folder)
    process.join(300)
    assert process.exitcode == 0, (folder / 'output.txt').read_text()
    return files(folder / 'run')


def learned(run):
    """The weights of a training's last and best checkpoints, and the loss of every step."""
    weights = {
        path.name: torch.load(path, weights_only=False)['state_dict'] for path in run.glob('*.pth')
    }
    lines = [
        json.loads(line)
        for file in sorted(run.glob('*/vis_data/scalars.json'))
        for line in file.read_text().splitlines()
    ]
    return weights, {line['step']: line['loss'] for line in lines if 'loss' in line}


@pytest.mark.parametrize('name', RUNS)
def test_killed_at_random_instants(place, name):
    argv, cut, undisturbed = words(name), place('cut'), place('whole')
    if name == 'correlate':
        for folder in (cut, undisturbed):
            write_images(folder)
    if name == 'train':
        for folder in (cut, undisturbed):
            with contextlib.chdir(folder):  # paths in the config are relative
                data = describe_data('data/digits', 32)
                (folder / 'config.py').write_text(config_text(as_architecture(TINY_NETWORK), data))
    whole = completed(argv, undisturbed)
    rng, killed, (last, kills) = random.Random(name), 0, ENDS[name]
    for _ in range(4 * kills):
        process = started(argv, cut)
        process.join(rng.uniform(0.2, 4.0))
        if process.exitcode is None:
            process.kill()
            process.join()
            killed += 1
        if killed == kills or (cut / 'run' / last).exists():
            break
    assert killed > 0
    again = completed(argv, cut)
    if name == 'correlate':  # logs and report hold times
        again, whole = (
            {path: text for path, text in one.items() if path.startswith(('records', 'study'))}
            for one in (again, whole)
        )
        assert len(whole) == 7
    if name != 'train':
        assert again == whole
        return
    # Its logs hold times.
    (one, losses), (other, expected) = learned(cut / 'run'), learned(undisturbed / 'run')
    assert losses == expected
    assert len(losses) > 6
    assert one.keys() == other.keys()
    for checkpoint, weights in one.items():
        torch.testing.assert_close(weights, other[checkpoint], rtol=0, atol=0)


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


def test_a_search_whose_disk_is_full(place):
    argv = words('search')
    whole = completed(argv, place('whole'))
    # No run.json, no trace, no picture; the midst of a trace is in test_runs/test_folder.py.
    for size in (100, 2500, len(whole['trace.jsonl']) + 2000):
        folder = place(f'full{size}')
        refused_for_room(*limited(argv, folder, size))
        assert completed(argv, folder) == whole


def test_a_training_whose_disk_is_full(tmp_path):
    """A checkpoint finds no room; what is left is resumed."""
    write_images(tmp_path)
    (tmp_path / 'config.py').write_text(CONFIG)
    argv = [str(TOOLS / 'train.py'), 'config.py', '--work-dir', 'run', '--resume']
    refused_for_room(*limited(argv, tmp_path, 200_000))
    assert len(completed(argv, tmp_path)['epoch_2.pth']) > 200_000


def test_a_small_file_system(place):
    """A real one, where the machine allows to mount it."""
    argv, folder = words('search'), place('small')
    disk = folder / 'run'
    disk.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=32k', 'tmpfs', str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip('may not mount')
    try:
        refused_for_room(*limited(argv, folder, 10**9))
        grown = ['mount', '-o', 'remount,size=64m', str(disk)]
        assert subprocess.run(grown, capture_output=True).returncode == 0
        assert 'result.json' in completed(argv, folder)
    finally:
        subprocess.run(['umount', str(disk)], check=True)
