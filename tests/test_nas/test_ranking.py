"""Ranks of networks against slow, obvious twins and hand-worked cases."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from asvit_mm.nas import rank_networks
from asvit_mm.nas.ranking import dense_ranks, relative_range

FEW = st.integers(0, 4).map(float)


@given(st.lists(FEW, min_size=1, max_size=12))
def test_dense_ranks(values):
    for value, rank in zip(values, dense_ranks(np.array(values)), strict=True):
        assert rank == len({v for v in values if v < value})


def slow_best(lengths, kappas):
    """Section 4 read aloud, one network against another."""
    n = len(lengths)

    def total(i):
        return len({v for v in lengths if v > lengths[i]}) + len(
            {v for v in kappas if v < kappas[i]}
        )

    tied = [i for i in range(n) if all(total(i) <= total(j) for j in range(n))]
    spread = [(max(m) - min(m)) / max(m) if max(m) else 0 for m in (lengths, kappas)]
    if spread[0] > spread[1]:
        return max(tied, key=lambda i: (lengths[i], -i))
    return min(tied, key=lambda i: (kappas[i], i))


@given(st.lists(st.tuples(FEW, FEW), min_size=1, max_size=10))
def test_best_network_as_the_slow_twin_has_it(pairs):
    ranking = rank_networks(pairs)
    assert ranking.best == slow_best(*zip(*pairs, strict=True))
    for i, (length, kappa) in enumerate(ranking.ranks):
        assert length == len({v for v, _ in pairs if v > pairs[i][0]})
        assert kappa == len({v for _, v in pairs if v < pairs[i][1]})


def test_tie_break_looks_at_all_tied_in_the_direction_of_the_measure():
    # Rank sums 2, 2, 2. L^E varies more (2/3 of its maximum, kappa by 2/12): the longest wins.
    ranking = rank_networks([(1.0, 10.0), (2.0, 11.0), (3.0, 12.0)])
    assert (ranking.best, ranking.tie_break) == (2, 'length_distortion')
    # Kappa varies more: the smallest wins.
    ranking = rank_networks([(12.0, 3.0), (11.0, 2.0), (10.0, 1.0)])
    assert (ranking.best, ranking.tie_break) == (2, 'kappa')
    # A clear winner needs none.
    assert rank_networks([(2.0, 1.0), (1.0, 2.0)]).tie_break is None


def test_relative_range():
    assert relative_range(np.array([2.0, 4.0])) == 0.5
    assert relative_range(np.array([0.0, 0.0])) == 0


def test_networks_without_kappa_are_ranked_where_none_has_one_and_those_without_length_never():
    ranking = rank_networks([(9.0, None), (1.0, 5.0), (None, 1.0), (2.0, 4.0)])
    assert (ranking.best, ranking.ranks) == (3, (None, (1, 1), None, (0, 0)))
    ranking = rank_networks([(1.0, None), (None, 3.0), (2.0, None)])
    assert (ranking.best, ranking.ranks) == (2, ((1, 0), None, (0, 0)))
    assert rank_networks([(None, 3.0), (None, None)]) is None
