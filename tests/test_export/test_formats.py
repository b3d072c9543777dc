"""Each format gives back what was written, for any batch, and differences from eager torch are found."""

import math
import sys
from importlib.util import find_spec

import onnx
import pytest
import torch
from torch import nn

from asvit_mm.arch import Architecture
from asvit_mm.errors import InputError
from asvit_mm.export.export import checked_shapes, example_images, largest_difference
from asvit_mm.export.formats import FORMATS, deploy, require_packages, trace
from asvit_mm.export.network import ExportNetwork, Pixels
from asvit_mm.nas import Clock

SHAPES = [(2, 2, 6, 4), (1, 2, 6, 4), (3, 2, 6, 4)]


class Maps(nn.Module):
    """Images (N, 2, H, W) to them, less one, and to their 2 x 2 means."""

    in_channels = 2

    def forward(self, images):
        return images - 1, nn.functional.avg_pool2d(images, 2)


class Branches(nn.Module):
    """What it computes depends on its input's values."""

    def forward(self, images):
        return images if images.sum() > 0 else -images


def network(module=None, size=(6, 4), **settings):
    return ExportNetwork(module or Maps(), ('stage1', 'stage2'), size, **settings)


class Linear(nn.Module):
    """Images (N, 2, H, W) to a linear layer of their sums."""

    in_channels = 2

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(24, 8, bias=False)

    def forward(self, images):
        return images.sum((1, 2, 3)), images.flatten(2) @ self.layer.weight.T


def has_packages(name):
    return all(map(find_spec, FORMATS[name].packages))


@pytest.mark.parametrize('name', FORMATS)
@torch.no_grad()
def test_a_file_gives_what_the_network_does(name, tmp_path):
    if not has_packages(name):
        pytest.skip(f'needs {", ".join(FORMATS[name].packages)}')
    path = tmp_path / f'maps{FORMATS[name].suffix}'
    FORMATS[name].write(network(), {'config': 'maps.py'}, path)
    exported = FORMATS[name].read(path)
    for batch in (1, 5):
        images = torch.rand(batch, 2, 6, 4)
        torch.testing.assert_close(tuple(exported(images)), network()(images))
    with pytest.raises(Exception, match=r'images|Guard|input tensor'):
        exported(torch.rand(1, 2, 8, 4))


@torch.no_grad()
def test_eight_bits_are_eight_bits(tmp_path):
    """Weights and inputs are rounded to a 127th of what is largest, no more."""
    path, whole = tmp_path / 'float32.onnx', network(Linear())
    FORMATS['onnx-int8'].write(whole, {}, path)
    types = {node.op_type for node in onnx.load(path).graph.node}
    assert {'MatMulInteger', 'DynamicQuantizeLinear'} <= types
    assert [p.name for p in tmp_path.iterdir()] == ['float32.onnx']
    images = torch.rand(3, 2, 6, 4)
    expected, found = whole(images), FORMATS['onnx-int8'].read(path)(images)
    assert torch.allclose(found[0], expected[0])
    error = (found[1] - expected[1]).abs().max()
    assert 0 < error < 24 * 0.21 / 127


@pytest.mark.slow
@pytest.mark.parametrize('name', FORMATS)
def test_a_classifier_in_the_runtime_of_a_format(name):
    if not has_packages(name):
        pytest.skip(f'needs {", ".join(FORMATS[name].packages)}')
    classifier = Clock(3, 32).classifier(Architecture.parse('5,2,2|3,2,3|2,1,2|3,1,2|16'))
    images = torch.rand(1, 3, 32, 32)
    (logits,) = deploy(classifier, images, name)()
    with torch.no_grad():
        difference = (logits - classifier(images)).abs().max()
    assert difference < (0.02 if name == 'onnx-int8' else 1e-5)


@pytest.mark.parametrize(
    ('name', 'missing'), [('onnx', 'onnxruntime'), ('openvino', 'openvino'), ('onnx-int8', 'onnx')]
)
def test_missing_packages_are_named(name, missing, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)  # hides a package that is there
    with pytest.raises(InputError, match=f'export to {name} needs {missing}, not installed: pip'):
        require_packages(name)


def test_what_cannot_be_traced():
    with pytest.raises(InputError, match='cannot follow the model of the config') as error:
        trace(network(Branches()))
    assert '\n' not in str(error.value)


def test_shapes_and_images_that_are_compared():
    assert checked_shapes(network()) == SHAPES
    free = network(size=(64, 32), step=16, smallest=32)
    assert checked_shapes(free)[3:] == [(2, 2, 80, 64), (1, 2, 48, 32)]
    normalized = example_images(network(), SHAPES[0])
    assert torch.equal(normalized, example_images(network(), SHAPES[0]))
    assert normalized.min() < 0
    pixels = Pixels('RGB', (1.0, 1.0), (1.0, 1.0))
    raw = example_images(network(pixels=pixels, raw=True), SHAPES[0])
    assert raw.min() >= 0
    assert 200 < raw.max() <= 255


@pytest.mark.parametrize('output', [0, 1])
@pytest.mark.parametrize('batch', [1, 2, 3])
def test_the_largest_difference_is_found_in_any_output_at_any_shape(output, batch):
    def difference(change):
        def exported(images):
            outputs = list(Maps()(images))
            if len(images) == batch:
                outputs[output] = change(outputs[output])
            return outputs

        return largest_difference(network(), exported, SHAPES)

    assert difference(lambda one: one) == 0
    assert difference(lambda one: one - 0.5) == pytest.approx(0.5)
    assert difference(lambda one: one[..., :1]) == math.inf
    assert math.isnan(difference(lambda one: one * math.nan))
