import math

import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from asvit_mm.errors import InputError
from asvit_mm.measures import (
    ImageCircle,
    extrinsic_curvature,
    gauss_map_length,
    length_distortion,
)
from asvit_mm.measures.curves import curve_derivatives, output_derivatives
from asvit_mm.models import AsViT
from tests.golden import ENTRIES, golden_backbone

from .small import LN, TINY, circle, derivative_by_coordinate, network, output_on


@pytest.mark.parametrize('entry', ENTRIES, ids=lambda entry: entry['arch'])
def test_golden(entry):
    size = entry['img_size']
    model = golden_backbone(entry, norm_cfg=None)
    gaussian = torch.randn(3 * size * size, 2, generator=torch.Generator().manual_seed(1)).double()
    reference = ImageCircle(torch.linalg.qr(gaussian)[0], size)
    expected = torch.tensor(entry['length_distortion_per_theta'], dtype=torch.float64)
    speeds = output_derivatives(model, reference).norm(dim=1)
    torch.testing.assert_close(speeds, expected, rtol=1e-8, atol=0)
    score = length_distortion(model, reference)
    assert score.value == pytest.approx(entry['length_distortion_sum'], rel=1e-8)


@pytest.mark.parametrize('norm_cfg', [None, LN])
def test_agrees_with_one_coordinate_at_a_time(norm_cfg):
    model, images = network(norm_cfg=norm_cfg).double().eval(), circle(num_angles=4)
    angles = torch.linspace(0, 2 * math.pi, 4, dtype=torch.float64).requires_grad_()
    expected = derivative_by_coordinate(output_on(images, model, angles), angles)
    got = output_derivatives(model, images)
    torch.testing.assert_close(got, expected.detach(), rtol=1e-9, atol=1e-14)
    assert length_distortion(model, images).value == pytest.approx(got.norm(dim=1).sum().item())


def test_agree_with_backward_passes_coordinate_by_coordinate():
    """At 18 pixels some windows are padded and others are not."""
    size = 18
    model = network('5,2,2,1|3,2,3,1|2,1,2,1|3,1,2,1|16,4', size, None).double().eval()
    images = circle(size, num_angles=2)
    angles = torch.linspace(0, 2 * math.pi, 2, dtype=torch.float64).requires_grad_()

    def velocity(angles):
        with sdpa_kernel(SDPBackend.MATH):
            return derivative_by_coordinate(output_on(images, model, angles), angles)

    v = velocity(angles)
    a = derivative_by_coordinate(v, angles)
    fast_v, fast_a = curve_derivatives(model, images)
    torch.testing.assert_close(fast_v, v.detach(), rtol=1e-9, atol=1e-15)
    torch.testing.assert_close(fast_a, a.detach(), rtol=1e-8, atol=1e-14)

    vv, aa, va = (v * v).sum(1), (a * a).sum(1), (v * a).sum(1)
    curvature = (vv**-1.5 * (vv * aa - va**2).sqrt()).sum().item()
    assert extrinsic_curvature(model, images).value == pytest.approx(curvature, rel=1e-8)

    step = 1e-5
    before, after = (F.normalize(velocity(angles + offset)) for offset in (-step, step))
    length = ((after - before) / (2 * step)).norm(dim=1).sum().item()
    assert gauss_map_length(model, images).value == pytest.approx(length, rel=1e-5)


def plane_of_two_pixels(num_angles):
    basis = torch.zeros(3 * 4 * 4, 2, dtype=torch.float64)
    basis[0, 0] = basis[1, 1] = 1
    return ImageCircle(basis, 4, num_angles)


class Circle(AsViT):
    """Its output is the image's first three pixels, times ``radius``: the circle itself, enlarged."""

    radius = 1.0

    def pooled_tokens(self, x):
        return self.radius * x.flatten(1)[:, :3]


@pytest.mark.parametrize('radius', [0.5, 4.0])
def test_circles(radius):
    """A circle of radius r has curvature 1 / r, and its direction turns by 1 per radian."""
    model = Circle(TINY, norm_cfg=None).double()
    model.radius = radius
    images = plane_of_two_pixels(5)
    assert extrinsic_curvature(model, images).value == pytest.approx(5 / radius, rel=1e-12)
    assert gauss_map_length(model, images).value == pytest.approx(5, rel=1e-12)


@pytest.mark.parametrize('function', [extrinsic_curvature, gauss_map_length])
def test_undefined_curvatures(function):
    model = network(norm_cfg=None)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    assert 'constant' in function(model, circle()).reason
    with pytest.raises(InputError, match='norm_cfg=None'):
        function(network(), circle())


class Kink(AsViT):
    """Its output has a first derivative everywhere, and no second one where a pixel is 0."""

    def pooled_tokens(self, x):
        x = x.flatten(1)[:, :2]
        return x + x.abs() ** 1.5


def test_a_missing_second_derivative_is_bad():
    score = extrinsic_curvature(Kink(TINY, norm_cfg=None).double(), plane_of_two_pixels(1))
    assert not score.valid
    assert score.reason.startswith('the second derivative')
