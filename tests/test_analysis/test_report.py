"""Report, table and picture of records that are made up, so that the right answer is known."""

import io
import json

import pytest
from rich.console import Console

from asvit_mm.analysis import TABLE_WIDTH, markdown_report, screen_table, summarise
from asvit_mm.analysis.study_plots import plot_study
from asvit_mm.measures import MEASURES

from ..test_report.test_plots import is_picture, only

SETTINGS = {
    'num': 12, 'strata': 2, 'data': 'digits', 'img_size': 32, 'epochs': 5, 'repeat': 2, 'seed': 0,
    'measures': list(MEASURES), 'device': 'cpu', 'threads': 1,
}  # fmt: skip
STUDY = {'settings': SETTINGS, 'versions': {'torch': '2.10'}, 'architectures': []}


def record(i, bad=()):
    """Every measure grows with the accuracy."""
    return {
        'index': i,
        'arch': f'arch {i}',
        'params': 10**6 + 10**5 * i,
        'macs': 10**7,
        'stratum': i // 6,
        'measures': {
            name: {'value': None, 'std': None, 'reason': 'NaN'}
            if name in bad
            else {'value': 2.0**i, 'std': 0.1, 'reason': ''}
            for name in MEASURES
        },
        'trained': {'top1': 80.0 + i, 'val_loss': 1 / (i + 1), 'train_loss': 1.0},
        'seconds': {'measures': dict.fromkeys(MEASURES, 1.5), 'training': 10.0},
    }


RECORDS = [record(i, ('ntk_condition_number',) if i == 4 else ()) for i in range(12)]


@pytest.fixture(scope='module')
def summary():
    return summarise(STUDY, RECORDS)


def test_directions_and_what_is_left_out(summary):
    by_name = {measure['name']: measure for measure in summary['measures']}
    assert list(by_name) == list(MEASURES)
    for name, measure in by_name.items():
        sign = 1 if MEASURES[name].higher_is_better else -1
        assert measure['top1']['tau'] == pytest.approx(sign)
        assert measure['val_loss']['tau'] == pytest.approx(sign)
        assert measure['top1']['tau_within'] == pytest.approx(sign)
        assert measure['seconds_a_network'] == 1.5
    kappa = by_name['ntk_condition_number']
    assert (kappa['top1']['n'], kappa['left_out']) == (11, [{'arch': 'arch 4', 'reason': 'NaN'}])
    assert by_name['length_distortion']['published_tau'] == 0.49
    assert sum(measure['published_tau'] is not None for measure in summary['measures']) == 1
    assert (summary['accuracy']['min'], summary['accuracy']['max']) == (80, 91)
    assert json.loads(json.dumps(summary, allow_nan=False))['records'] == RECORDS


def test_page(summary):
    page = markdown_report(
        summary, 'python tools/analysis_tools/correlate.py --num 12', 'scatter.png'
    )
    rows = [line for line in page.splitlines() if line.startswith('| ')]
    assert len(rows) == 2 + len(MEASURES)
    assert len({row.count('|') for row in rows}) == 1
    assert '    python tools/analysis_tools/correlate.py --num 12' in page
    assert '1 architecture(s) without a score are left out (arch 4: NaN)' in page
    assert '80.00 to 91.00 %' in page
    assert '(scatter.png)' in page


def test_screen(summary):
    console = Console(file=io.StringIO(), width=TABLE_WIDTH)
    console.print(screen_table(summary))
    text = console.file.getvalue()
    assert '…' not in text
    assert '+0.49' in text
    assert all(info.title in text for info in MEASURES.values())


def test_picture(summary, tmp_path):
    assert is_picture(plot_study(summary, tmp_path / 'a.png'))
    assert only(tmp_path) == ['a.png']


def test_picture_of_one_measure_that_nothing_was_measured_by(tmp_path):
    name = 'ntk_condition_number'
    study = {**STUDY, 'settings': {**SETTINGS, 'measures': [name]}}
    summary = summarise(study, [record(i, (name,)) for i in range(3)])
    assert summary['measures'][0]['top1']['tau'] is None
    assert '| - |' in markdown_report(summary, 'command', 'scatter.png')
    assert plot_study(summary, tmp_path / 'a.png').is_file()
