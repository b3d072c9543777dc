"""What README tells people to type is understood by the tools; test_docs runs its Python."""

import pytest

from .pages import (
    ROOT,
    broken_links,
    check_command,
    commands,
    inline_commands,
)

README = ROOT / 'README.md'
COMMANDS = commands(README)


@pytest.mark.parametrize('command', [*COMMANDS, *inline_commands(README)])
def test_tools_understand_the_commands(command, monkeypatch):
    check_command(command, monkeypatch)


def test_the_make_targets_are_the_ways_in():
    targets = [line.split()[1] for line in COMMANDS if line.startswith('make ')]
    assert targets == ['demo', 'test']


def test_links_lead_somewhere():
    assert broken_links(README) == []
