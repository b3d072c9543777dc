"""A report of made-up records whose right answer is known."""

import json

import pytest

from asvit_mm.analysis.plots import plot_percentiles, plot_repeats
from asvit_mm.analysis.seed_percentiles import pair_of, report_text, summarise
from asvit_mm.analysis.statistics import draw_seeds
from asvit_mm.arch import SEARCH_SPACE

from .pictures import is_picture

NUM, NETWORKS = 5, 4
SETTINGS = {
    'num_archs': NUM, 'data': 'noise', 'img_size': 16, 'batch_size': 4, 'repeat': NETWORKS,
    'seed': 0, 'threads': 1, 'device': 'cpu',
}  # fmt: skip
STUDY = {'settings': SETTINGS, 'run_seed': 1_000_000}
ARCHS = [str(arch) for arch in draw_seeds(6, 7)]
CELL = '`' + ARCHS[5].replace('|', '\\|') + '`'


def record(i, length, kappa):
    """Networks differ by a factor that ranks architectures alike."""
    return {
        'arch': ARCHS[i],
        'length_distortion': [length * (1 + k / 100) for k in range(NETWORKS)],
        'ntk_condition_number': [kappa if kappa is None else kappa * 2**k for k in range(NETWORKS)],
        'seconds': [1.0, 2.0, 3.0, 6.0],
    }


RECORDS = [
    record(0, 1.0, 10.0),
    record(1, 2.0, 40.0),
    record(2, 3.0, 20.0),
    record(3, 4.0, None),
    record(4, 5.0, 30.0),
    record(5, 9.0, 5.0),  # named only
]
NAMED = {'best': ARCHS[5], 'drawn': ARCHS[2]}


@pytest.fixture(scope='module')
def summary():
    return summarise(RECORDS, NUM, NAMED, seed=0)


def test_summary(summary):
    best, drawn = summary['named']
    assert best['length_distortion']['percentile'] == 100
    assert best['ntk_condition_number']['percentile'] == 100
    assert best['rank_sum_percentile'] == 100
    # Itself left out: better than 2 of 4, and than 40, 30 and the bad one.
    assert drawn['length_distortion']['percentile'] == 50
    assert drawn['ntk_condition_number']['percentile'] == 75
    assert drawn['ntk_condition_number']['value'] == 20 * (1 + 2 + 4 + 8) / 4
    assert summary['random']['length_distortion']['quartiles'][1] == pytest.approx(3 * 1.015)
    assert summary['random']['ntk_condition_number']['measured'] == 4
    assert summary['seconds'] == 3
    kappa = summary['repeats']['ntk_condition_number']
    assert (kappa['architectures'], kappa['left_out']) == (4, 1)
    assert [row['networks'] for row in kappa['rows']] == [1, 2, 3]
    assert kappa['rows'][0]['tau'] == pytest.approx(1)
    assert list(summary['choices']['length_distortion']) == list(SEARCH_SPACE.choices)
    json.dumps(summary, allow_nan=False)


def test_report(summary):
    page = report_text(STUDY, summary, 'python tools/analysis_tools/seed_percentiles.py')
    assert f'| best | {CELL} | 9.135 | 100.0 | 18.75 | 100.0 | 100.0 |' in page
    assert 'One network takes 3 s (mean, both measures).' in page
    assert '| kappa | 1 | 1.000 ± 0.000 |' in page
    assert '(4 architectures, 1 left out)' in page
    assert '| measure | K1 | S1 | E1 | K2 |' in page
    assert 'nan' not in page


def test_one_network_has_no_table_of_repeats():
    measured = ('length_distortion', 'ntk_condition_number', 'seconds')
    one = [{**r, **{key: r[key][:1] for key in measured}} for r in RECORDS]
    summary = summarise(one, NUM, NAMED, seed=0)
    page = report_text({**STUDY, 'settings': {**SETTINGS, 'repeat': 1}}, summary, '')
    assert page.endswith('says nothing about it.\n')


@pytest.mark.parametrize('bad', [False, True])
def test_pictures(bad, tmp_path):
    none = dict.fromkeys(('length_distortion', 'ntk_condition_number'), [None] * NETWORKS)
    records = [{**one, **none} if bad else one for one in RECORDS]
    summary = summarise(records, NUM, NAMED, seed=0)
    for i in range(2):
        pairs = [pair_of(one) for one in records]
        plot_percentiles(pairs[:NUM], {'best': pairs[5]}, tmp_path / f'scatter{i}.png')
        plot_repeats(summary['repeats'], tmp_path / f'repeats{i}.png')
    for name in ('scatter', 'repeats'):
        assert is_picture(tmp_path / f'{name}0.png')
        first, again = ((tmp_path / f'{name}{i}.png').read_bytes() for i in range(2))
        assert first == again
    if bad:
        assert summary['named'][0]['rank_sum_percentile'] == 50
        assert f'| best | {CELL} | - | 50.0 | - | 50.0 | 50.0 |' in report_text(STUDY, summary, '')
