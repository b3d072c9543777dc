"""The sample of the study, and the summary of records that are made up, so that the right answer is known."""

import json

import numpy as np
import pytest

from asvit_mm.analysis.correlate import sample_architectures, summarise
from asvit_mm.analysis.plots import plot_correlations
from asvit_mm.cost import count_params
from asvit_mm.errors import InputError
from asvit_mm.nas import space_for

from .pictures import is_picture

NAMES = ['length_distortion', 'ntk_condition_number', 'synflow', 'params']


def size(arch):
    return count_params(arch, 10, img_size=32)


def test_architectures_of_all_sizes_in_a_random_order():
    sampled = sample_architectures(42, size, 4, seed=0)
    assert sampled == sample_architectures(42, size, 4, seed=0)
    assert len(set(sampled)) == 42
    assert all(arch.is_seed for arch in sampled)
    uniform = np.array([size(arch) for arch in sample_architectures(400, size, 1, seed=1)])
    for part in (sampled, sampled[::2], sampled[1::2]):
        quarters = np.searchsorted(np.percentile(uniform, [25, 50, 75]), [size(a) for a in part])
        counts = np.bincount(quarters, minlength=4)
        assert counts.min() >= len(part) / 4 - 4
    assert set(sampled) != set(sample_architectures(42, size, 4, seed=1))


def test_sampled_from_the_space_for_the_images():
    assert sample_architectures(8, size, 4, 0, space_for(224)) == sample_architectures(8, size)
    sampled = sample_architectures(40, size, 4, 0, space_for(32))
    assert {arch.splits[0] for arch in sampled} == {2, 4}


@pytest.mark.parametrize(
    ('num', 'strata', 'words'),
    [(3, 4, 'from 1 to 3 strata'), (3, 0, 'from 1 to 3'), (10**6, 4, 'at most 10000')],
)
def test_refusals(num, strata, words):
    with pytest.raises(InputError, match=words):
        sample_architectures(num, size, strata)


def record(i):
    """Every measure grows with the accuracy; one has no value of one, another of none."""
    scores = dict.fromkeys(NAMES, 2.0**i)
    scores['synflow'] = None
    if i == 4:
        scores['ntk_condition_number'] = None
    return {'params': 10**6 + 10**5 * i, 'measures': scores, 'top1': 80.0 + i}


def test_summary_and_picture(tmp_path):
    records = [record(i) for i in range(12)]
    measures = summarise(NAMES, records, seed=0)
    json.dumps(measures, allow_nan=False)
    by_name = {measure['name']: measure for measure in measures}
    nothing, kappa = by_name.pop('synflow'), by_name['ntk_condition_number']
    assert (nothing['n'], nothing['tau'], kappa['n']) == (0, None, 11)
    for measure in by_name.values():
        sign = 1 if measure['better'] == 'higher' else -1
        assert measure['tau'] == pytest.approx(sign)
    assert {measure['better'] for measure in measures} == {'higher', 'lower'}
    plot_correlations(measures, records, tmp_path / 'a.png')
    assert is_picture(tmp_path / 'a.png')
