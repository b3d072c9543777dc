"""The front, and the score that networks are compared by."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asvit_mm.nas import pareto_front, percentile_scores

points = st.lists(st.tuples(*[st.integers(0, 4)] * 3), max_size=12)


@given(points)
def test_the_front_is_what_nothing_dominates(costs):
    def dominates(a, b):
        return a != b and all(x <= y for x, y in zip(a, b, strict=True))

    front = pareto_front(costs)
    kept = [costs[i] for i in front]
    assert len(set(kept)) == len(kept)
    assert set(kept) == {p for p in costs if not any(dominates(other, p) for other in costs)}


def test_a_score_is_the_mean_percentile():
    values = [(3.0, 1.0), (2.0, 2.0), (1.0, 3.0), (3.0, None), (None, None)]
    assert percentile_scores(values) == [100, 50, 0, None, None]
    assert percentile_scores([(1.0, 2.0), (2.0, 2.0)]) == [25, 75]
    assert percentile_scores([(1.0, 2.0)]) == [50]
    assert percentile_scores([]) == []


@given(st.permutations([(1.0, 9.0), (2.0, 7.0), (2.0, 8.0), (5.0, 3.0)]))
def test_a_score_does_not_depend_on_the_order(values):
    scores = dict(zip(values, percentile_scores(values), strict=True))
    assert scores[5.0, 3.0] == 100
    assert scores[1.0, 9.0] == 0
    assert scores[2.0, 7.0] == pytest.approx(100 * (1.5 + 2) / 6)
