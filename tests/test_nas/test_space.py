from dataclasses import replace

import pytest

from asvit_mm.arch import SEARCH_SPACE
from asvit_mm.nas import space_for
from asvit_mm.tokens import stage_sizes, window_length


def test_the_published_space_at_its_size():
    assert space_for(224) == SEARCH_SPACE


@pytest.mark.parametrize('stride', [1, 2, 4])
@pytest.mark.parametrize('size', [8, 28, 32, 64, 128])
def test_no_split_leaves_windows_of_a_single_token(size, stride):
    space = space_for(size, stride)
    for i, grid in enumerate(stage_sizes(size, stride)[:3]):
        splits, all_splits = space.choices[f'S{i + 1}'], SEARCH_SPACE.choices[f'S{i + 1}']
        wide = tuple(s for s in all_splits if window_length(grid, s) > 1)
        assert splits == (wide or all_splits[:1])
    arch = space.decode([len(values) - 1 for values in space.choices.values()])
    assert arch.stride == stride
    assert space.decode(space.encode(arch)) == arch
    assert arch in space
    assert replace(arch, stride=1 if stride > 1 else 2) not in space
    assert arch.with_size((2, 1, 1, 1), 64) in space
    if len(space.choices['S1']) < 3:
        assert SEARCH_SPACE.decode([0, 2, *[0] * 10]) not in space
