import pytest

from asvit_mm.errors import InputError, ShareError, one_line_errors


def test_an_input_error_is_one_line_and_status_2(capsys):
    with pytest.raises(SystemExit) as stop, one_line_errors():
        raise InputError('x = 3 is not allowed: give 4')
    assert stop.value.code == 2
    assert capsys.readouterr().err == 'error: x = 3 is not allowed: give 4\n'


def test_ctrl_c_has_no_traceback(capsys):
    with pytest.raises(SystemExit) as stop, one_line_errors():
        raise KeyboardInterrupt
    assert stop.value.code == 130
    assert capsys.readouterr().err == 'interrupted\n'


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ValueError, match='ours'), one_line_errors():
        raise ValueError('ours')


def test_ctrl_c_may_say_how_to_go_on(capsys):
    with pytest.raises(SystemExit) as stop, one_line_errors():
        raise KeyboardInterrupt('interrupted after 3 steps')
    assert stop.value.code == 130
    assert capsys.readouterr().err == 'interrupted after 3 steps\n'


def test_one_process_of_a_launcher_speaks_for_all(capsys, monkeypatch):
    monkeypatch.setenv('RANK', '1')
    with pytest.raises(SystemExit) as stop, one_line_errors():
        raise InputError('wrong')
    assert stop.value.code == 2
    assert capsys.readouterr().err == ''
    with pytest.raises(SystemExit) as stop, one_line_errors():
        raise ShareError('wrong in my share')
    assert stop.value.code == 2
    assert capsys.readouterr().err == 'error: wrong in my share\n'
