"""Stopping a tool in the middle of its work, and comparing what runs wrote."""

import os
import subprocess
import sys
import time
from signal import SIG_DFL, SIGINT
from signal import signal as on_signal

from .runs import TOOLS


def stopped(name, *args, cwd, trace, lines, signal, ready=lambda: True):
    """:func:`stop` a tool that is started here."""
    process = subprocess.Popen(
        [sys.executable, TOOLS / name, *map(str, args)],
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        # A suite that a shell started in the background hands down that Ctrl-C is ignored.
        preexec_fn=lambda: on_signal(SIGINT, SIG_DFL),
    )
    return stop(process, trace=trace, lines=lines, signal=signal, ready=ready)


def stop(process, *, trace, lines, signal, ready=lambda: True):
    """Send a process ``signal`` once the trace has so many lines and it is ``ready``: status and stderr."""
    try:
        deadline = time.monotonic() + 120
        while not trace.exists() or trace.read_bytes().count(b'\n') < lines or not ready():
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()
            time.sleep(0.002)
        process.send_signal(signal)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    return process.returncode, errors


def files(work_dir):
    """Content by name of everything that a run wrote, but its times."""
    return {
        str(path.relative_to(work_dir)): path.read_bytes()
        for path in work_dir.rglob('*')
        if path.is_file() and path.name not in ('timing.jsonl', '.lock')
    }


def cut(work_dir, at):
    """Make of a finished run one that was killed when its trace had ``at`` bytes."""
    for path in (work_dir / 'configs').iterdir():
        path.unlink()
    for path in (work_dir / 'result.json', work_dir / 'report.html', *work_dir.glob('*.png')):
        path.unlink(missing_ok=True)
    trace = work_dir / 'trace.jsonl'
    trace.write_bytes(trace.read_bytes()[:at])
