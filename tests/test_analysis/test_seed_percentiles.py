"""A summary of made-up records whose right answer is known."""

import json
from dataclasses import replace

import pytest

from asvit_mm.analysis.plots import plot_percentiles
from asvit_mm.analysis.seed_percentiles import pair_of, space_of, summarise
from asvit_mm.analysis.statistics import draw_seeds
from asvit_mm.arch import PRESETS
from asvit_mm.errors import InputError
from asvit_mm.nas import space_for

from .pictures import is_picture

NUM, NETWORKS = 5, 4
ARCHS = draw_seeds(6, 7)


def record(i, length, kappa):
    """Networks differ by a factor that ranks architectures alike."""
    return {
        'name': str(ARCHS[i]),
        'length_distortion': [length * (1 + k / 100) for k in range(NETWORKS)],
        'ntk_condition_number': [kappa if kappa is None else kappa * 2**k for k in range(NETWORKS)],
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


def test_summary():
    summary = summarise(RECORDS, NUM, NAMED)
    best, drawn = summary['named']
    assert best['percentiles'] == [100, 100, 100]
    # Itself left out: better than 2 of 4, and than 40, 30 and the bad one.
    assert drawn['percentiles'][:2] == [50, 75]
    assert drawn['values'][1] == 20 * (1 + 2 + 4 + 8) / 4
    assert summary['medians'][0] == pytest.approx(3 * 1.015)
    assert [noise['architectures'] for noise in summary['noise']] == [5, 4]
    assert summary['noise'][1]['reliability'] == pytest.approx([1] * NETWORKS)
    json.dumps(summary, allow_nan=False)


def test_judged_by_networks_of_the_same_stride_that_fit_the_images():
    seed = PRESETS['seed']
    assert draw_seeds(50, 3, space_of({'a': seed}, 224)) == draw_seeds(50, 3)
    drawn = draw_seeds(50, 3, space_of({'a': replace(seed, stride=2)}, 32))
    assert drawn == draw_seeds(50, 3, space_for(32, 2))
    assert {arch.stride for arch in drawn} == {2}
    assert {arch.splits[0] for arch in draw_seeds(50, 3, space_of({}, 32))} == {2, 4}
    with pytest.raises(InputError, match='strides 2 and 4 of the patch embedding'):
        space_of({'a': replace(seed, stride=2), 'b': seed}, 32)


@pytest.mark.parametrize('bad', [False, True])
def test_picture(bad, tmp_path):
    none = dict.fromkeys(('length_distortion', 'ntk_condition_number'), [None] * NETWORKS)
    records = [{**one, **none} if bad else one for one in RECORDS]
    pairs = [pair_of(one) for one in records]
    for i in range(2):
        plot_percentiles(pairs[:NUM], {'best': pairs[5]}, tmp_path / f'{i}.png')
    assert is_picture(tmp_path / '0.png')
    assert (tmp_path / '0.png').read_bytes() == (tmp_path / '1.png').read_bytes()
    if bad:
        summary = summarise(records, NUM, NAMED)
        assert summary['named'][0]['percentiles'] == [50, 50, 50]
        assert summary['medians'] == [None, None]
