"""Searches and scaling runs whose measurements two real processes share, against those of one."""

import os
import signal
import subprocess
import sys
import time

import pytest

from .kills import files
from .runs import TOOLS, tool

SIZE = ['--data', 'digits', '--img-size', '16', '--batch-size', '4', '--device', 'cpu']
RUNS = {
    'search.py': ('--work-dir', 'run', *SIZE, '--repeat', '3', '--steps', '5'),
    'scale.py': (
        *('8,2,3|4,1,2|4,1,4|4,1,6|32', '--work-dir', 'run', *SIZE, '--repeat', '1'),
        *('--min-params', '2.5M', '--max-params', '5M'),
    ),
}


def launch(name, *args, cwd):
    """Start a tool in two processes of torchrun."""
    return subprocess.Popen(
        [
            *(sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2'),
            *('--rdzv_backend=c10d', '--rdzv_endpoint=localhost:0'),
            *(TOOLS / name, *args, '--launcher', 'pytorch'),
        ],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )


def finished(process):
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


@pytest.mark.slow
@pytest.mark.parametrize('name', RUNS)
def test_two_processes_write_what_one_writes(tmp_path, name):
    for folder in ('one', 'two'):
        (tmp_path / folder).mkdir()
    process = launch(name, *RUNS[name], cwd=tmp_path / 'two')
    done = tool(name, *RUNS[name], cwd=tmp_path / 'one')
    assert done.returncode == 0, done.stderr
    status, out, err = finished(process)
    assert status == 0, err
    assert out.count('architecture ') == done.stdout.count('architecture ') > 0
    one, two = (files(tmp_path / folder / 'run') for folder in ('one', 'two'))
    assert one == two
    assert (tmp_path / 'two' / 'run' / 'timing.jsonl').exists()


@pytest.mark.slow
def test_killed_with_two_processes_and_resumed_with_one(tmp_path):
    args = RUNS['search.py']
    for folder in ('whole', 'killed'):
        (tmp_path / folder).mkdir()
    process = launch('search.py', *args, cwd=tmp_path / 'killed')
    trace = tmp_path / 'killed' / 'run' / 'trace.jsonl'
    try:
        deadline = time.monotonic() + 120
        while not trace.exists() or trace.read_bytes().count(b'\n') < 2:
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert not (tmp_path / 'killed' / 'run' / 'result.json').exists()
    done = tool('search.py', *args, '--resume', cwd=tmp_path / 'killed')
    assert done.returncode == 0, done.stderr
    assert 'resumed: ' in done.stdout
    assert tool('search.py', *args, cwd=tmp_path / 'whole').returncode == 0
    assert files(tmp_path / 'killed' / 'run') == files(tmp_path / 'whole' / 'run')


def test_without_torchrun_it_says_so(tmp_path):
    done = tool('search.py', '--launcher', 'pytorch', *RUNS['search.py'], cwd=tmp_path)
    assert done.returncode == 2
    assert 'error: --launcher pytorch without RANK in the environment' in done.stderr
    assert not (tmp_path / 'run').exists()


def test_a_refusal_ends_all_processes(tmp_path):
    process = launch('search.py', '--steps', '0', '--work-dir', 'run', *SIZE, cwd=tmp_path)
    status, _, err = finished(process)
    assert status != 0
    assert err.count('error: --steps 0 is too small') == 1
