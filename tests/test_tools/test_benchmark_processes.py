import json

import pytest

from .runs import tool

TOOL = 'analysis_tools/benchmark_processes.py'


@pytest.mark.slow
def test_ways_of_running_a_search_side_by_side(tmp_path):
    options = '--steps 2 --rounds 1 --img-size 16 --repeat 2 --json b.json'
    done = tool(TOOL, *options.split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / 'b.json').read_text())
    assert written['equal_traces'] is True
    assert [len(values) for values in written['seconds'].values()] == [1, 1, 1]
    assert 'traces of one process and of 2: equal' in done.stdout


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (('--processes', 1), 'give at least 2 processes, 2 steps and 1 round'),
        (('--json', '.'), "--json '.' cannot be written: give a file in another folder"),
    ],
)
def test_one_line_for_what_cannot_be_run(tmp_path, words, said):
    done = tool(TOOL, *words, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == f'error: {said}\n'
