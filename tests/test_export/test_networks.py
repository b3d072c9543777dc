"""Sizes that an export leaves free."""

import pytest

from asvit_mm.arch import PRESETS
from asvit_mm.errors import InputError
from asvit_mm.export.networks import size_step
from asvit_mm.models import AsViT

ARCH = '5,2,2,1|3,1,2,1|2,1,2,1|3,1,2,1|16,16'


def test_steps_of_free_sizes():
    """By hand: a token's pixels times windows a side, the least common multiple of all stages."""
    assert {name: size_step(AsViT(PRESETS[name]), 'torch') for name in ('seed', 'small')} == {
        'seed': 32,
        'small': 32,
    }
    assert size_step(AsViT('4,8,2|2,4,2|2,2,2|2,1,2|32', 32), 'torch') == 32
    assert size_step(AsViT(ARCH, 32, token_stride=8), 'onnx') == 64
    assert size_step(AsViT(ARCH, 32, token_stride=12, window_size=7), 'onnx') == 96


@pytest.mark.parametrize(
    ('settings', 'file_format', 'words'),
    [
        ({'merge_rounding': 'over'}, 'onnx', 'merge_rounding'),
        ({'token_stride': 8, 'keep_map_sizes': True}, 'onnx', 'keep_map_sizes'),
        ({'window_size': 7}, 'torch', 'window_size and --format torch'),
    ],
)
def test_settings_with_which_sizes_are_not_free(settings, file_format, words):
    with pytest.raises(InputError, match=words):
        size_step(AsViT(ARCH, 32, **settings), file_format)
