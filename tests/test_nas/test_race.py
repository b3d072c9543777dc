"""Who races, how long each round trains, who goes on."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asvit_mm.arch import SEARCH_SPACE
from asvit_mm.nas import Cost, choose_finalists, going_on, plan_race, rank_by_accuracy
from asvit_mm.nas.race import MIN_EPOCHS, round_sizes


def seed(*indices):
    return SEARCH_SPACE.decode([*indices, *[0] * (12 - len(indices))])


def test_finalists_are_not_alike_while_there_are_others():
    first, near, far = seed(0), seed(1), seed(1, 1, 1)
    assert choose_finalists([first], [near, far], 2) == [first, far]
    assert choose_finalists([first], [first, near, far, near], 9) == [first, far, near]
    assert choose_finalists([first, near], [far], 1) == [first]


def test_finalists_may_differ_in_their_stride():
    finer = replace(seed(0), stride=2)
    assert choose_finalists([seed(0)], [finer, replace(seed(1, 1, 1), stride=2)], 3) == [
        seed(0),
        replace(seed(1, 1, 1), stride=2),
        finer,
    ]


@pytest.mark.parametrize(
    ('count', 'rounds'), [(2, [2]), (3, [3, 2]), (5, [5, 2]), (8, [8, 3, 2]), (20, [20, 7, 3, 2])]
)
def test_the_best_third_goes_on(count, rounds):
    assert round_sizes(count) == rounds


costs = st.lists(
    st.builds(Cost, st.floats(0, 20), st.floats(1e-4, 1e-1), st.floats(0, 20)),
    min_size=2,
    max_size=9,
)


@given(costs, st.floats(60, 7200), st.integers(1, 4), st.integers(200, 50_000))
def test_a_plan_keeps_its_time_and_every_training_sees_a_batch(costs, seconds, processes, images):
    plan = plan_race(costs, seconds, processes, images, 64)
    assert [one.networks for one in plan] == round_sizes(len(costs))
    ordered = sorted(costs, key=lambda cost: -cost.per_image)
    for one in plan:
        assert 64 <= one.images <= images
        assert one.epochs >= 1
        slowest = ordered[: one.networks]
        fixed, per_image, validation = (
            sum(getattr(cost, name) for cost in slowest) / one.networks
            for name in ('fixed', 'per_image', 'validation')
        )
        takes = fixed + one.epochs * one.images * per_image + one.validations * validation
        takes *= -(-one.networks // processes)
        least = one.epochs == 1 and one.images == 64
        assert least or takes <= seconds / len(plan)
        # Fewer images than there are, only where they could not be seen often enough.
        assert one.images == images or one.epochs <= MIN_EPOCHS


def test_longer_rounds_for_fewer_networks():
    plan = plan_race([Cost(1, 1e-3, 1)] * 8, 1200, 2, 8000, 64)
    assert [one.epochs for one in plan] == sorted({one.epochs for one in plan})
    assert {one.images for one in plan} == {8000}


def test_the_most_accurate_goes_on_and_of_equal_ones_the_cheapest():
    assert rank_by_accuracy([50.0, None, 60.0, 60.0], [1, 1, 9, 8]) == [3, 2, 0, 1]


def test_each_base_stride_keeps_its_share_until_two_decide():
    coarse = [seed(i) for i in range(5)]
    fine = [replace(arch, stride=2) for arch in coarse]
    ranked = [*coarse, *fine]
    assert going_on(ranked, 4) == [*coarse[:2], *fine[:2]]
    assert going_on(ranked, 3) == [*coarse[:2], fine[0]]
    assert going_on([*coarse, fine[0]], 2) == [coarse[0], fine[0]]
    assert going_on(ranked, 1) == coarse[:1]
    assert going_on(coarse, 3) == coarse[:3]
    assert going_on([*fine[:1], *coarse], 9) == [*fine[:1], *coarse]
