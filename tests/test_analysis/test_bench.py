import json

import pytest

from asvit_mm.analysis.bench import BUDGETS, LEAST_USAGE, bench_items, draw_networks, run_bench
from asvit_mm.analysis.settings import BenchSettings
from asvit_mm.arch import as_architecture
from asvit_mm.errors import InputError
from asvit_mm.tokens import stage_sizes, window_length
from tests.test_data.test_folder import write_images


@pytest.mark.parametrize('budget', BUDGETS.values(), ids=str)
def test_networks_use_their_budget(budget):
    archs = draw_networks(budget, 32, 10)
    assert len(set(archs)) == budget.networks
    assert archs == draw_networks(budget, 32, 10)
    assert {arch.stride for arch in archs} == {2, 4}
    for arch in archs:
        assert LEAST_USAGE <= budget.usage(arch, 32, 10) <= 1
        stages = zip(stage_sizes(32, arch.stride), arch.splits, strict=True)
        assert all(side == 1 or window_length(side, split) > 1 for side, split in stages)
