import errno
import socket

import pytest

from asvit_mm.errors import InputError, one_line_errors

from .test_tools.runs import ended, torchrun


@pytest.mark.parametrize(
    ('error', 'status', 'line'),
    [
        (InputError('x = 3 is not allowed: give 4'), 2, 'error: x = 3 is not allowed: give 4\n'),
        (
            OSError(errno.ENOSPC, 'No space left on device', 'run/trace.jsonl'),
            2,
            "error: cannot write to 'run/trace.jsonl' (No space left on device): make room and give the "
            'command again, with --resume if it has one\n',
        ),
        (
            OSError(errno.ELOOP, 'Too many levels of symbolic links', 'loop'),
            2,
            "error: 'loop' cannot be used (Too many levels of symbolic links): give another path\n",
        ),
        (KeyboardInterrupt(), 130, 'interrupted\n'),
        (KeyboardInterrupt('interrupted after 3 steps'), 130, 'interrupted after 3 steps\n'),
    ],
)
def test_one_line_and_a_status(error, status, line, capsys):
    with pytest.raises(SystemExit) as stop, one_line_errors():
        raise error
    assert stop.value.code == status
    assert capsys.readouterr().err == line


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ValueError, match='ours'), one_line_errors():
        raise ValueError('ours')
    with pytest.raises(FileNotFoundError), one_line_errors():
        raise FileNotFoundError(errno.ENOENT, 'none', 'x')


FAILING = """
import os
from asvit_mm.errors import InputError, one_line_errors
rank = int(os.environ['RANK'])
with one_line_errors():
    {}
"""
APART = "raise InputError('wrong' + f' (traceback: rank{rank}.txt)' * rank)"


@pytest.mark.slow
@pytest.mark.parametrize(
    ('body', 'lines'),
    [
        (APART, ['error: wrong']),
        ("raise InputError(f'image {rank}')", ['error: rank 0: image 0', 'error: rank 1: image 1']),
        (
            "import time; time.sleep(60) if rank == 0 else None; raise InputError('wrong')",
            ['error: rank 1: wrong'],
        ),
        ("raise OSError(28, 'No space left on device')", ['error: cannot write (No space left']),
    ],
)
def test_two_processes(tmp_path, body, lines):
    (tmp_path / 'failing.py').write_text(FAILING.format(body))
    _, _, errors = ended(torchrun(tmp_path / 'failing.py', cwd=tmp_path))
    said = sorted(line for line in errors.splitlines() if line.startswith('error: '))
    assert len(said) == len(lines), errors
    assert all(map(str.startswith, said, lines))


def test_other_ranks_say_nothing_where_processes_cannot_meet(capsys, monkeypatch):
    for name, value in dict(RANK='1', WORLD_SIZE='2', MASTER_ADDR='localhost').items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv('MASTER_PORT', raising=False)
    with pytest.raises(SystemExit) as stop, one_line_errors():
        raise InputError('wrong')
    assert stop.value.code == 2
    assert capsys.readouterr().err == ''


@pytest.mark.parametrize(
    ('rank', 'line'), [('0', 'error: wrong\n'), ('3', 'error: rank 3: wrong\n')]
)
def test_each_speaks_where_nobody_listens(capfd, monkeypatch, rank, line):
    with socket.socket() as taken:
        taken.bind(('localhost', 0))  # does not listen
        port = str(taken.getsockname()[1])
        given = dict(RANK=rank, WORLD_SIZE='4', MASTER_ADDR='localhost', MASTER_PORT=port)
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit), one_line_errors():
            raise InputError('wrong')
    assert capfd.readouterr().err == line
