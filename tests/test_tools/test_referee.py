"""tools/analysis_tools/referee.py as users run it: a study that is killed, resumed and enlarged."""

import json

import pytest

from asvit_mm.analysis.bench import BUDGETS, BenchBudget, draw_networks, write_table
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


@pytest.mark.slow
def test_our_own_table(here, monkeypatch):
    """More trained networks are judged later; no network changes its half, and none is measured again."""
    limits = BenchBudget('mine', 150_000, 2_000_000, networks=10, img_size=16, classes=2)
    monkeypatch.setitem(BUDGETS, 'mine', limits)
    archs, folder = draw_networks(limits), here.folder / 'bench'
    folder.mkdir()

    def add(indices, seed=0):
        for i in indices:
            losses = {str(k): 2 - 0.01 * i - k / 1000 for k in (20, 40)}
            record = dict(budget='mine', index=i, seed=seed, arch=str(archs[i]), top1=50.0 + i)
            record |= dict(data='256 training images', recipe={'epochs': 2, 'batch': 64})
            record |= dict(short_loss=losses, train_loss=1.0, seconds=8.0, beside=0)
            record |= dict(device='cpu', torch='2')
            (folder / f'mine-{i:03d}-{seed}.json').write_text(json.dumps(record))
        write_table(folder)

    add(range(1, 9))
    args = ('bench/table.json', '--work-dir', 'study', '--img-size', 16, '--batch-size', 2)
    args += ('--repeat', 1, '--device', 'cpu')
    here.run(RUN, *args)
    report = json.loads((here.folder / 'study' / 'report.json').read_text())
    rows = {row['name']: row for row in report['rows']}
    assert rows['short_20']['held_out']['tau'] == 1
    assert rows['short_40']['seconds'] == 8 * 40 / 8
    assert (
        rows['short_20']['across_seeds'] is None or rows['short_20']['across_seeds']['tau'] is None
    )
    assert {'reward', 'stride', 'ntk_condition_number_on_noise', 'gauss_map_length_wide'} <= set(
        rows
    )
    first = records(here)
    add((0,))
    add(range(4), seed=1)
    here.run(RUN, *args, '--resume')
    again = records(here)
    assert {name: again[name] for name in first} == first
    assert len(again) == 9
    page = (here.folder / 'study' / 'report.md').read_text()
    assert '(4 networks have two)' in page
    assert 'over the first 9 networks' in page
    assert 'in cells' not in page  # there are too few pairs
    report = json.loads((here.folder / 'study' / 'report.json').read_text())
    (row,) = (row for row in report['rows'] if row['name'] == 'short_20')
    assert row['across_seeds']['tau'] == 1
    assert '9 of 10 networks of the budget are trained' in page
    assert 'the tuning half (5)' in page
    assert '+1.00 [' in page.split('loss after 20 steps')[1].splitlines()[0]
    assert 'take --img-size 16' in here.refusal(RUN, *args, '--overwrite', '--img-size', 32)


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
