"""tools/analysis_tools/referee.py as users run it: a study that is killed, resumed and enlarged."""

import json

import pytest

from tests.test_analysis.test_referee.test_tables import ood_entry

from .runs import Here

ARGS = ('table.json', '--work-dir', 'study', '--img-size', 32, '--batch-size', 2, '--repeat', 2)
SMALL = (*ARGS, '--repeated', 2, '--device', 'cpu')
RUN = 'analysis_tools/referee.py'


@pytest.fixture
def here(monkeypatch, capsys, tmp_path):
    table = {str(i): ood_entry(70.123456 + i % 7, 16 + 8 * (i % 3)) for i in range(10)}
    (tmp_path / 'table.json').write_text(json.dumps(table))
    return Here(monkeypatch, capsys, tmp_path)


def records(here):
    return {path.name: path.read_text() for path in (here.folder / 'study' / 'records').iterdir()}


def values(text):
    return [network['values'] for network in json.loads(text)['networks']]


@pytest.mark.slow
def test_a_study_that_is_enlarged(here):
    out = here.run(RUN, *SMALL, '--networks', 8)
    first = records(here)
    assert len(first) == 8
    report = json.loads((here.folder / 'study' / 'report.json').read_text())
    assert 'synflow' in {row['name'] for row in report['rows']}
    text = ''.join(first.values()) + json.dumps(report)
    assert '.123456' not in text  # no accuracy of the benchmark
    assert 'length distortion' in out
    page = (here.folder / 'study' / 'report.md').read_text()
    assert 'judged by imagenet' in page
    (here.folder / 'study' / 'records' / '0003.json').unlink()  # as after a kill
    here.run(RUN, *SMALL, '--networks', 9, '--resume')
    again = records(here)
    assert len(again) == 9
    assert {name: values(text) for name, text in again.items() if name in first} == {
        name: values(text) for name, text in first.items()
    }
    table = here.folder / 'table.json'
    table.write_text(table.read_text().replace('70.1', '71.1'))
    assert 'of another study (table_sha256' in here.refusal(
        RUN, *SMALL, '--networks', 9, '--resume'
    )


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (('--networks', 8, '--target', 'c100'), "no accuracy 'c100'"),
        (('--networks', 4), 'too small'),
    ],
)
def test_refusals(here, args, words):
    assert words in here.refusal(RUN, *SMALL, *args)


def test_a_network_that_is_not_the_table_s(here):
    table = json.loads((here.folder / 'table.json').read_text())
    for entry in table.values():
        entry['params'] += 0.001
    (here.folder / 'table.json').write_text(json.dumps(table))
    assert 'and the table says' in here.refusal(RUN, *SMALL, '--networks', 8)
