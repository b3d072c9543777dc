"""A difference is found wherever it is: in any output, at any shape, of any kind."""

import math

import pytest
import torch

from asvit_mm.export import images_of, largest_difference, probed_shapes

from .small import Maps, network

SHAPES = [(2, 2, 6, 4), (1, 2, 6, 4), (3, 2, 6, 4)]


def changed(output, batch, change):
    """An export that differs from :class:`Maps` in one output, for one size of batch."""

    def exported(images):
        outputs = list(Maps()(images))
        if len(images) == batch:
            outputs[output] = change(outputs[output])
        return outputs

    return exported


def test_the_probed_shapes():
    assert probed_shapes(network()) == SHAPES
    free = network(size=(64, 32), step=16, smallest=32)
    assert probed_shapes(free)[3:] == [(2, 2, 80, 64), (1, 2, 48, 32)]


def test_images_are_always_the_same():
    normalised, pixels = network(), network(raw=True)
    assert torch.equal(images_of(normalised, SHAPES[0]), images_of(normalised, SHAPES[0]))
    assert images_of(normalised, SHAPES[0]).min() < 0
    assert images_of(pixels, SHAPES[0]).min() >= 0
    assert 200 < images_of(pixels, SHAPES[0]).max() <= 255


@pytest.mark.parametrize('output', [0, 1])
@pytest.mark.parametrize('batch', [1, 2, 3])
def test_the_largest_difference(output, batch):
    assert largest_difference(network(), Maps(), SHAPES) == 0
    found = {
        name: largest_difference(network(), changed(output, batch, change), SHAPES)
        for name, change in {
            'value': lambda one: one - 0.5,
            'shape': lambda one: one[..., :1],
            'nan': lambda one: one * math.nan,
        }.items()
    }
    assert found['value'] == pytest.approx(0.5)
    assert found['shape'] == math.inf
    assert math.isnan(found['nan'])
