"""Networks that use up a budget."""

from dataclasses import replace

import numpy as np
import pytest

from asvit_mm.arch import PRESETS
from asvit_mm.nas import Budget, draw_filling, space_for, with_finer_tokens
from asvit_mm.nas.filling import LEAST_USAGE, widest

TOPOLOGIES = [space_for(32).sample(np.random.default_rng(seed)) for seed in range(3)]


@pytest.mark.parametrize('limits', [(1_500_000, 15_000_000), (3_000_000, None), (None, 8_000_000)])
def test_the_widest_is_the_last_that_fits(limits):
    budget = Budget(10, 32, *limits)
    for topology in with_finer_tokens(TOPOLOGIES, 32):
        for depths in [(1, 1, 1, 1), (4, 2, 3, 1)]:
            every = [topology.with_size(depths, w) for w in range(topology.heads // 2, 120, 4)]
            fitting = [arch for arch in every if budget.fits(arch)]
            expected = fitting[-1] if fitting else None
            if expected and budget.usage(expected) < LEAST_USAGE:
                expected = None
            assert widest(topology, depths, budget) == expected


def test_usage_is_that_of_the_tighter_limit():
    arch = PRESETS['seed']
    limits = Budget(10, 32).params(arch), Budget(10, 32).macs(arch)
    assert Budget(10, 32).usage(arch) == 0
    assert Budget(10, 32, 2 * limits[0], 4 * limits[1]).usage(arch) == 0.5
    assert Budget(10, 32, 2 * limits[0], limits[1]).usage(arch) == 1


def test_drawn_networks_are_of_all_topologies_and_fill_the_budget():
    budget = Budget(10, 32, 12_000_000, 80_000_000)

    def draw():
        topologies = with_finer_tokens(TOPOLOGIES, 32)
        return list(draw_filling(topologies, 4, budget, 24, np.random.default_rng(0)))

    drawn = draw()
    assert drawn == draw()
    assert len(drawn) == len(set(drawn)) == 24
    assert all(LEAST_USAGE <= budget.usage(arch) <= 1 for arch in drawn)
    assert all(1 <= depth <= 4 for arch in drawn for depth in arch.depths)
    assert {arch.seed for arch in drawn} == set(with_finer_tokens(TOPOLOGIES, 32))


def test_a_budget_that_no_network_fills_gives_none():
    assert not list(draw_filling(TOPOLOGIES, 4, Budget(10, 32, 1000), 2, np.random.default_rng(0)))


def test_tokens_are_made_finer_for_small_images_only():
    seed = PRESETS['seed']
    assert with_finer_tokens([seed], 224) == [seed]
    assert with_finer_tokens([seed], 32) == [seed, replace(seed, stride=2)]
    finest = replace(seed, stride=1)
    assert with_finer_tokens([finest], 32) == [finest]
