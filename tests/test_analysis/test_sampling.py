import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asvit_mm.analysis.sampling import draw_equally, quantile_strata, sample_architectures
from asvit_mm.arch import SEARCH_SPACE
from asvit_mm.cost import count_params
from asvit_mm.errors import InputError


def size(arch):
    return count_params(arch, 10, img_size=32)


def sorted_strata(sizes, strata):
    """The slow twin: sort, then cut the sorted list; equal sizes keep their order."""
    order = sorted(range(len(sizes)), key=lambda i: (sizes[i], i))
    found = [0] * len(sizes)
    for rank, i in enumerate(order):
        while (found[i] + 1) * len(sizes) <= rank * strata:
            found[i] += 1
    return found


@given(st.lists(st.integers(0, 20), min_size=1, max_size=60), st.integers(1, 8))
def test_strata_are_the_sorted_sizes_cut(sizes, strata):
    found = quantile_strata(sizes, strata)
    assert found.tolist() == sorted_strata(sizes, strata)
    if strata <= len(sizes):
        counts = np.bincount(found, minlength=strata)
        assert counts.max() - counts.min() <= 1
    for a in range(strata - 1):
        lower = [s for s, f in zip(sizes, found, strict=True) if f == a]
        upper = [s for s, f in zip(sizes, found, strict=True) if f == a + 1]
        assert not lower or not upper or max(lower) <= min(upper)


@given(st.integers(1, 40), st.integers(1, 8), st.integers(0, 2**32))
def test_every_stratum_gives_its_share(num, strata, seed):
    stratum = np.arange(100) % strata
    drawn = draw_equally(stratum, num, strata, np.random.default_rng(seed))
    assert len(set(drawn)) == len(drawn) == num
    counts = np.bincount(stratum[drawn], minlength=strata)
    assert counts.max() - counts.min() <= 1


@settings(max_examples=5)
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
        assert max(s.params for s in sampled if s.stratum == a) <= min(
            s.params for s in sampled if s.stratum == a + 1
        )


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


def test_the_pool_is_of_the_search_space():
    archs = [s.arch for s in sample_architectures(4, size)]
    for arch in archs:
        assert arch.kernels[0] in SEARCH_SPACE.choices['K1']
        assert arch.heads in SEARCH_SPACE.choices['H']
