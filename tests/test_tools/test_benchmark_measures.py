import json

import pytest

from tests.test_tools.runs import tool

TOOL = 'analysis_tools/benchmark_measures.py'


@pytest.mark.slow
def test_measures_against_forward_pass_published_procedure_and_float64(tmp_path):
    file = tmp_path / 'b.json'
    options = '--img-size 32 --batch-size 4 --angles 3 --rounds 1 --coordinates 2 --ranks 3'
    done = tool(TOOL, 'seed', *options.split(), '--json', file, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'Kendall tau 1.0000' in done.stdout
    written = json.loads(file.read_text())
    for name in ('length_distortion', 'ntk_condition_number'):
        assert written['ranks'][name]['n'] == 3
        figures = written['figures'][name]
        assert figures['forwards'] > 0
        assert figures['published_seconds'] > figures['seconds'] > 0
        assert figures['difference'] < 1e-3
    done = tool(TOOL, '--ranks', '1', cwd=tmp_path)
    assert done.returncode == 2
    assert (
        done.stderr == 'error: give at least 1 round, 0 coordinates, and no or at least 2 ranks\n'
    )


def test_figures_that_cannot_be_written(tmp_path):
    done = tool(TOOL, '--json', '.', cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: --json '.' cannot be written: give a file in another folder\n"
