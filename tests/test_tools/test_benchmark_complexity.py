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
    assert {name: rank['n'] for name, rank in written['ranks'].items()} == {
        'length_distortion': 3,
        'ntk_condition_number': 3,
    }
    rows = {row['name']: row for row in written['rows']}
    for name in ('length distortion', 'NTK condition number'):
        assert rows[name]['forwards'] > 0
        assert rows[name]['published_seconds'] > rows[name]['seconds'] > 0
        assert rows[name]['difference'] < 1e-3


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [(['--rounds', '0'], 'at least 1 round'), (['--ranks', '1'], 'at least 2 ranks')],
)
def test_one_line_for_what_cannot_be_run(arguments, message, tmp_path):
    done = tool(TOOL, *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert 'Traceback' not in done.stderr
