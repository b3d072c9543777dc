"""The free sizes of an export, and the pixels that its network takes."""

import pytest
import torch
from mmpretrain.models import ClsDataPreprocessor
from torch import nn

from asvit_mm.arch import PRESETS
from asvit_mm.errors import InputError
from asvit_mm.export.accuracy import prepare
from asvit_mm.export.network import ExportNetwork, Pixels, size_step
from asvit_mm.models import AsViT

ARCH = '5,2,2,1|3,1,2,1|2,1,2,1|3,1,2,1|16,16'


def test_steps_of_free_sizes():
    """By hand: a token's pixels times windows a side, the least common multiple of all stages."""
    assert {size_step(AsViT(PRESETS[name]), 'torch') for name in ('seed', 'small')} == {32}
    assert size_step(AsViT('4,8,2|2,4,2|2,2,2|2,1,2|32', 32), 'torch') == 32
    assert size_step(AsViT(ARCH, 32, token_stride=8), 'onnx') == 64
    assert size_step(AsViT(ARCH, 32, token_stride=12, window_size=7), 'onnx') == 96


@pytest.mark.parametrize(
    ('settings', 'file_format', 'words'),
    [
        ({'merge_rounding': 'over'}, 'onnx', 'merge_rounding'),
        ({'token_stride': 8, 'keep_map_sizes': True}, 'onnx', 'keep_map_sizes'),
        ({}, 'openvino', 'it reads what --format onnx writes'),
        ({'window_size': 7}, 'torch', 'window_size and --format torch'),
    ],
)
def test_settings_with_which_sizes_are_not_free(settings, file_format, words):
    with pytest.raises(InputError, match=words):
        size_step(AsViT(ARCH, 32, **settings), file_format)


class Both(nn.Module):
    """Two maps: the images and twice the images."""

    def forward(self, images):
        return images, 2 * images


@pytest.mark.parametrize('order', ['RGB', 'BGR'])
def test_raw_pixels_are_normalized_as_the_preprocessor_does(order):
    mean, std = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)
    rgb = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    as_read = rgb.flip(1)  # MMCV reads BGR
    preprocessor = ClsDataPreprocessor(mean=mean, std=std, to_rgb=order == 'RGB')
    expected = preprocessor({'inputs': as_read})['inputs']
    network = ExportNetwork(Both(), ('a', 'b'), (8, 8), pixels=Pixels(order, mean, std), raw=True)
    torch.testing.assert_close(network(rgb.float()), (expected, 2 * expected))
    assert torch.equal(prepare(as_read, network), rgb.float())


@pytest.mark.parametrize('raw', [False, True])
def test_channels_without_an_order_stay_where_they_are(raw):
    pixels = torch.randint(0, 256, (2, 4, 8, 8), dtype=torch.uint8)
    settings = Pixels('', (0.0,) * 4, (1.0,) * 4)
    network = ExportNetwork(Both(), ('a', 'b'), (8, 8), pixels=settings, raw=raw)
    assert torch.equal(prepare(pixels, network), pixels.float())
