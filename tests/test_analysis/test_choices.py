import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asvit_mm.analysis import draw_seeds
from asvit_mm.analysis.choices import shares_of_choices
from asvit_mm.arch import SEARCH_SPACE


def slow(seeds, values, name):
    """Sum of squares between the groups over the whole, by hand."""
    k = list(SEARCH_SPACE.choices).index(name)
    logs = [math.log(value) for value in values]
    groups = {}
    for seed, log in zip(seeds, logs, strict=True):
        groups.setdefault(SEARCH_SPACE.encode(seed)[k], []).append(log)
    mean = sum(logs) / len(logs)
    between = sum(len(g) * (sum(g) / len(g) - mean) ** 2 for g in groups.values())
    return between / sum((log - mean) ** 2 for log in logs)


@given(st.data())
def test_against_the_definition(data):
    seeds = draw_seeds(data.draw(st.integers(3, 20)), 0)
    positive = st.floats(1e-3, 1e3).map(lambda v: round(v, 3)).filter(bool)
    values = data.draw(
        st.lists(positive, min_size=len(seeds), max_size=len(seeds)).filter(lambda v: len({*v}) > 1)
    )
    for name, share in shares_of_choices(seeds, values).items():
        assert share == pytest.approx(slow(seeds, values, name), abs=1e-9)
        assert 0 <= share <= 1 + 1e-9


def test_a_measure_of_one_choice():
    seeds = draw_seeds(300, 1)
    shares = shares_of_choices(seeds, [2.0 ** seed.kernels[0] for seed in seeds])
    assert shares.pop('K1') == pytest.approx(1)
    assert max(shares.values()) < 0.06


def test_what_has_no_value_is_left_out():
    seeds = draw_seeds(50, 1)
    values = [seed.heads for seed in seeds]
    less = shares_of_choices(seeds[:40], values[:40])
    assert shares_of_choices(seeds, values[:40] + [None] * 10) == less
    for none in ([None] * 50, [3.0] * 50, [3.0] + [None] * 49):
        assert set(shares_of_choices(seeds, none).values()) == {None}
