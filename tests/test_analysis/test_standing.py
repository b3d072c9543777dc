"""Percentiles against a count by hand, and a report of made-up records whose right answer is known."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asvit_mm.analysis import (
    draw_seeds,
    percentile,
    percentiles,
    rank_sum_percentile,
    standing_report,
    summarise_standing,
)
from asvit_mm.analysis.standing import mean_of
from asvit_mm.analysis.standing_plots import plot_repeats, plot_standing
from asvit_mm.arch import SEARCH_SPACE
from asvit_mm.errors import InputError

from ..test_report.test_plots import is_picture

VALUES = (
    st.none() | st.integers(-3, 3).map(float) | st.floats(allow_nan=False, allow_infinity=False)
)


@given(VALUES, st.lists(VALUES, min_size=1, max_size=8), st.booleans())
def test_percentile_counts(value, others, higher):
    def beats(a, b):
        if a is None or b is None:
            return a is not None and b is None
        return a > b if higher else a < b

    worse = sum(beats(value, other) for other in others)
    equal = sum(value == other for other in others)
    expected = 100 * (worse + equal / 2) / len(others)
    assert percentile(value, others, higher_is_better=higher) == pytest.approx(expected)


def test_each_measure_in_its_direction():
    assert percentiles((2.0, 1.0), [(1.0, 2.0), (1.0, 3.0)]) == (100, 100)
    assert percentiles((0.5, 4.0), [(1.0, 2.0), (1.0, 3.0)]) == (0, 0)
    assert percentiles((1.0, None), [(1.0, None), (0.0, 3.0)]) == (75, 25)


def test_rank_sum():
    others = [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0), (4.0, 4.0)]  # all sums are equal
    assert rank_sum_percentile((5.0, 0.5), others) == 100
    assert rank_sum_percentile((0.0, 9.0), others) == 0
    assert rank_sum_percentile((2.5, 2.5), others) == 50
    assert rank_sum_percentile((2.5, 1.5), others) == 100
    assert rank_sum_percentile((3.5, None), others) == 0


def test_mean_of():
    assert mean_of([1.0, 2.0, 6.0]) == 3
    assert mean_of([1.0, None]) is None


def test_draw_seeds():
    drawn = draw_seeds(60, 3)
    assert len(set(drawn)) == 60
    assert all(arch.is_seed for arch in drawn)
    assert draw_seeds(20, 3) == drawn[:20]
    assert draw_seeds(20, 4) != drawn[:20]
    rng = np.random.default_rng(3)
    assert drawn[:3] == [SEARCH_SPACE.sample(rng) for _ in range(3)]
    with pytest.raises(InputError, match='at most 10000'):
        draw_seeds(10_001, 0)


NUM, NETWORKS = 5, 4
SETTINGS = {
    'num': NUM, 'data': 'noise', 'img_size': 16, 'batch_size': 4, 'repeat': NETWORKS, 'seed': 0,
    'threads': 1, 'device': 'cpu',
}  # fmt: skip


ARCHS = [str(arch) for arch in draw_seeds(6, 7)]


def record(i, length, kappa):
    """Networks differ by a factor that ranks architectures alike."""
    return {
        'index': i,
        'arch': ARCHS[i],
        'length_distortion': [length * (1 + k / 100) for k in range(NETWORKS)],
        'ntk_condition_number': [kappa if kappa is None else kappa * 2**k for k in range(NETWORKS)],
        'bad': [],
        'seconds': [1.0, 2.0, 3.0, 6.0],
    }


CELL = '`' + ARCHS[5].replace('|', '\\|') + '`'
RECORDS = [
    record(0, 1.0, 10.0),
    record(1, 2.0, 40.0),
    record(2, 3.0, 20.0),
    record(3, 4.0, None),
    record(4, 5.0, 30.0),
    record(5, 9.0, 5.0),  # named only
]
STUDY = {
    'settings': SETTINGS,
    'versions': {},
    'run_seed': 1_000_000,
    'architectures': [{'arch': one['arch']} for one in RECORDS],
}


@pytest.fixture(scope='module')
def summary():
    return summarise_standing(STUDY, RECORDS, {'best': ARCHS[5], 'drawn': ARCHS[2]})


def test_summary(summary):
    best, drawn = summary['named']
    assert best['length_distortion']['percentile'] == 100
    assert best['ntk_condition_number']['percentile'] == 100
    assert best['rank_sum_percentile'] == 100
    # Itself left out: better than 2 of 4, and than 40, 30 and the bad one.
    assert drawn['length_distortion']['percentile'] == 50
    assert drawn['ntk_condition_number']['percentile'] == 75
    assert drawn['ntk_condition_number']['value'] == 20 * (1 + 2 + 4 + 8) / 4
    assert summary['random']['length_distortion']['median'] == pytest.approx(3 * 1.015)
    assert summary['random']['ntk_condition_number']['measured'] == 4
    assert summary['seconds_a_network'] == 3
    kappa = summary['repeats']['ntk_condition_number']
    assert (kappa['architectures'], kappa['left_out']) == (4, 1)
    assert [row['networks'] for row in kappa['rows']] == [1, 2, 3, 4]
    assert kappa['rows'][0]['rest'] == {
        'tau': pytest.approx(1), 'tau_std': pytest.approx(0),
        'rho': pytest.approx(1), 'rho_std': pytest.approx(0), 'splits': 4,
    }  # fmt: skip
    assert list(summary['choices']['length_distortion']) == list(SEARCH_SPACE.choices)
    json.dumps(summary, allow_nan=False)


def test_report(summary):
    page = standing_report(summary, 'python tools/analysis_tools/seed_percentiles.py')
    assert f'| best | {CELL} | 9.135 | 100.0 | 18.75 | 100.0 | 100.0 |' in page
    assert 'A network takes 3 s (mean, both measures), so 4 of them take 12 s.' in page
    assert '| kappa | 1 | 1.000 ± 0.000 | 1.000 ± 0.000 | 4 |' in page
    assert '4 architectures, 1 without all values left out' in page
    assert '| measure | K1 | S1 | E1 | K2 |' in page
    assert '| by chance |' in page
    assert 'nan' not in page


def test_one_network_has_no_table_of_repeats():
    one = [
        {**r, **{k: r[k][:1] for k in ('length_distortion', 'ntk_condition_number', 'seconds')}}
        for r in RECORDS
    ]
    study = {**STUDY, 'settings': {**SETTINGS, 'repeat': 1}}
    summary = summarise_standing(study, one, {'best': ARCHS[5]})
    assert summary['repeats']['length_distortion']['rows'] == []
    assert 'says nothing about it' in standing_report(summary, '')


def test_pictures(summary, tmp_path):
    for plot in (plot_standing, plot_repeats):
        first, again = (plot(summary, tmp_path / f'{plot.__name__}{i}.png') for i in range(2))
        assert is_picture(first)
        assert first.read_bytes() == again.read_bytes()


def test_pictures_where_nothing_could_be_measured(tmp_path):
    bad = [
        {**r, **{k: [None] * NETWORKS for k in ('length_distortion', 'ntk_condition_number')}}
        for r in RECORDS
    ]
    summary = summarise_standing(STUDY, bad, {'best': ARCHS[5]})
    assert summary['named'][0]['rank_sum_percentile'] == 50
    assert summary['repeats']['length_distortion']['variance_ratio'] is None
    assert is_picture(plot_standing(summary, tmp_path / 'scatter.png'))
    assert is_picture(plot_repeats(summary, tmp_path / 'repeats.png'))
    assert f'| best | {CELL} | - | 50.0 | - | 50.0 | 50.0 |' in standing_report(summary, '')
