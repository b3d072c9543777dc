import math

import pytest
import torch

from asvit_mm.measures import ImageCircle, length_distortion
from asvit_mm.measures.curves import output_derivatives
from tests.golden import ENTRIES, golden_backbone

from .small import LN, circle, derivative_by_coordinate, network, output_on


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
