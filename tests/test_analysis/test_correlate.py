"""The sample of the study, and the report of records that are made up, so that the right answer is known."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asvit_mm.analysis.correlate import report_text, sample_architectures, summarise, table
from asvit_mm.analysis.plots import plot_correlations
from asvit_mm.cost import count_params
from asvit_mm.errors import InputError
from asvit_mm.measures import MEASURES

from .pictures import is_picture

# ---- The sample


def size(arch):
    return count_params(arch, 10, img_size=32)


@settings(max_examples=3)
@given(st.integers(4, 60), st.integers(1, 4), st.integers(0, 1000))
def test_architectures(num, strata, seed):
    sampled = sample_architectures(num, size, strata=strata, seed=seed)
    assert sampled == sample_architectures(num, size, strata=strata, seed=seed)
    assert len({s.arch for s in sampled}) == num
    for s in sampled:
        assert s.arch.is_seed
        assert s.params == size(s.arch)
    counts = np.bincount([s.stratum for s in sampled], minlength=strata)
    assert counts.max() - counts.min() <= 1
    for a in range(strata - 1):
        lower, upper = ([s.params for s in sampled if s.stratum == b] for b in (a, a + 1))
        assert max(lower) <= min(upper)


def test_seeds_differ_and_the_order_is_not_by_size():
    first, second = (sample_architectures(40, size, seed=seed) for seed in (0, 1))
    assert {s.arch for s in first} != {s.arch for s in second}
    for half in (first[::2], first[1::2]):
        assert {s.stratum for s in half} == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ('num', 'strata', 'words'),
    [(3, 4, 'from 1 to 3 strata'), (3, 0, 'from 1 to 3'), (10**6, 4, 'at most 10000')],
)
def test_refusals(num, strata, words):
    with pytest.raises(InputError, match=words):
        sample_architectures(num, size, strata=strata)


# ---- The report


SETTINGS = {
    'num_archs': 12, 'strata': 2, 'data': 'digits', 'img_size': 32, 'epochs': 5, 'repeat': 2,
    'seed': 0, 'device': 'cpu', 'threads': 1,
}  # fmt: skip
STUDY = {'settings': SETTINGS, 'versions': {'torch': '2.10'}}


def record(i, bad=()):
    """Every measure grows with the accuracy."""
    scores = {name: {'value': 2.0**i, 'std': 0.1, 'reason': ''} for name in MEASURES}
    scores |= {name: {'value': None, 'std': None, 'reason': 'NaN'} for name in bad}
    return {
        'arch': f'arch {i}',
        'params': 10**6 + 10**5 * i,
        'stratum': i // 6,
        'measures': scores,
        'trained': {'top1': 80.0 + i, 'val_loss': 1 / (i + 1), 'train_loss': 1.0},
        'seconds': {'measures': dict.fromkeys(MEASURES, 1.5), 'training': 10.0},
    }


RECORDS = [record(i, ('ntk_condition_number',) if i == 4 else ()) for i in range(12)]


@pytest.fixture(scope='module')
def measures():
    return summarise(list(MEASURES), RECORDS, seed=0)


def test_directions_and_what_is_left_out(measures):
    for measure in measures:
        sign = 1 if MEASURES[measure['name']].higher_is_better else -1
        found = measure['top1']['tau'], measure['top1']['tau_within'], measure['tau_loss']
        assert found == pytest.approx((sign, sign, sign))
        assert measure['seconds'] == 1.5
    by_name = {measure['name']: measure for measure in measures}
    kappa = by_name['ntk_condition_number']
    assert (kappa['top1']['n'], kappa['left_out']) == (11, [{'arch': 'arch 4', 'reason': 'NaN'}])
    assert by_name['length_distortion']['published_tau'] == 0.49
    json.dumps(measures, allow_nan=False)


def test_page(measures):
    page = report_text(STUDY, measures, RECORDS, 'python tools/analysis_tools/correlate.py')
    rows = [line for line in page.splitlines() if line.startswith('| ')]
    assert len(rows) == 2 + len(MEASURES)
    assert len({row.count('|') for row in rows}) == 1
    assert '    python tools/analysis_tools/correlate.py\n' in page
    assert '1 architecture(s) without a score are left out (arch 4: NaN)' in page
    assert '80.00 to 91.00 %' in page
    header, cells = table(measures)
    assert len(header) == len(cells[0])
    assert cells[0][-1] == '+0.49'


def test_picture(measures, tmp_path):
    plot_correlations(measures, RECORDS, tmp_path / 'a.png')
    assert is_picture(tmp_path / 'a.png')


def test_one_measure_that_nothing_could_be_measured_by(tmp_path):
    name = 'ntk_condition_number'
    records = [record(i, (name,)) for i in range(3)]
    measures = summarise([name], records, seed=0)
    assert measures[0]['top1']['tau'] is None
    assert '| - |' in report_text(STUDY, measures, records, 'command')
    plot_correlations(measures, records, tmp_path / 'a.png')
    assert (tmp_path / 'a.png').is_file()
