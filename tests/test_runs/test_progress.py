"""What a run shows on a terminal, in a notebook and in a log."""

import io
import sys
import warnings

import pytest
from rich.console import Console

from asvit_mm.runs.progress import LOG_LINES, format_seconds, format_value, show_progress


def show(console, total=50, counts=True):
    """A whole run; what the console got."""
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        with show_progress('search', total, counts=counts, console=console) as update:
            for done in range(1, total + 1):
                update(done, f'[net {done}]')
    return console.file.getvalue()


def console(term='xterm', **kwargs):
    return Console(file=io.StringIO(), width=100, _environ={'TERM': term}, **kwargs)


def test_a_terminal_has_a_bar(capsys):
    shown = show(console(force_terminal=True))
    assert '50/50' in shown
    assert '[net 50]' in shown
    assert capsys.readouterr().out == ''


def test_a_bar_in_percent(capsys):
    shown = show(console(force_terminal=True), counts=False)
    assert '100%' in shown
    assert '50/50' not in shown


@pytest.mark.parametrize(
    'options', [{}, {'force_terminal': True, 'term': 'dumb'}], ids=['log', 'dumb terminal']
)
def test_elsewhere_there_are_lines(capsys, options):
    shown = show(console(**options))
    lines = capsys.readouterr().out.splitlines()
    assert shown == ''
    assert len(lines) == LOG_LINES
    assert (lines[0], lines[-1]) == ('search:  10%  0 s left  [net 5]', 'search: 100%  [net 50]')


def test_a_notebook_without_ipywidgets_has_lines_and_no_warning(capsys, monkeypatch):
    # This is how Python itself marks what cannot be imported.
    monkeypatch.setitem(sys.modules, 'ipywidgets', None)
    shown = show(console(force_jupyter=True))
    assert shown == ''
    assert capsys.readouterr().out.splitlines()[-1] == 'search: 100%  [net 50]'


def test_the_bar_ends_with_an_error():
    shown = console(force_terminal=True)

    def run():
        with show_progress('search', 50, console=shown) as update:
            update(7, 'best')
            raise KeyError

    with pytest.raises(KeyError):
        run()
    assert ' 7/50' in shown.file.getvalue()
    assert not shown._live_stack


def test_the_time_left_is_that_of_this_part_of_the_run(capsys, monkeypatch):
    """A run that is resumed at step 20 of 50: a step takes 6 seconds."""
    clock = iter(range(0, 600, 6))
    monkeypatch.setattr('time.monotonic', lambda: next(clock))
    with show_progress('search', 50, console=console()) as update:
        for done in range(20, 51):
            update(done, '')
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == 'search:  40%  '
    assert lines[1] == 'search:  50%  2 min left  '


def test_figures():
    assert [format_seconds(s) for s in (0.2, 59, 90, 4000)] == ['0 s', '59 s', '2 min', '1 h 7 min']
    assert [format_value(v) for v in (None, 0.0123456, 12345.6)] == ['-', '0.01235', '1.235e+04']
