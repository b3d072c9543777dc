"""What README tells people to type is understood by the tools, and its Python runs."""

import pytest

from .pages import (
    ROOT,
    broken_links,
    check_command,
    code,
    commands,
    inline_commands,
    make_workplace,
    run_python,
)

README = ROOT / 'README.md'
COMMANDS = commands(README)


@pytest.mark.parametrize('command', [*COMMANDS, *inline_commands(README)])
def test_tools_understand_the_commands(command, monkeypatch):
    check_command(command, monkeypatch)


def test_the_make_targets_are_the_ways_in():
    targets = [line.split()[1] for line in COMMANDS if line.startswith('make ')]
    assert targets == ['demo', 'demo-detection', 'test']


def test_links_lead_somewhere():
    assert broken_links(README) == []


@pytest.mark.slow
@pytest.mark.parametrize('block', range(len(code(README, 'python'))))
def test_python_runs(block, tmp_path):
    run_python(code(README, 'python')[block], make_workplace(tmp_path))
