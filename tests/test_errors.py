import errno

import pytest

from asvit_mm.errors import InputError, ShareError, one_line_errors


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


@pytest.mark.parametrize(
    ('error', 'line'),
    [(InputError('wrong'), ''), (ShareError('wrong in my share'), 'error: wrong in my share\n')],
)
def test_other_ranks_print_errors_of_their_share_only(error, line, capsys, monkeypatch):
    monkeypatch.setenv('RANK', '1')
    with pytest.raises(SystemExit) as stop, one_line_errors():
        raise error
    assert stop.value.code == 2
    assert capsys.readouterr().err == line
