import math

import pytest
import torch

from asvit_mm.measures import curve_basis, length_distortion
from asvit_mm.measures.length_distortion import output_speeds
from asvit_mm.models import AsViT
from tests.golden import ENTRIES, golden_backbone

TINY = '5,2,2,1|3,2,3,1|2,1,2,1|3,1,2,1|16,16'


def slow_speeds(model, basis, img_size, num_angles):
    """The published procedure: one backward pass an output coordinate."""
    angles = torch.linspace(0, 2 * math.pi, num_angles, dtype=torch.float64).requires_grad_()
    images = (basis @ torch.stack([angles.cos(), angles.sin()])).T
    output = model.pooled_tokens(images.reshape(num_angles, 3, img_size, img_size))
    derivatives = [torch.autograd.grad(z.sum(), angles, retain_graph=True)[0] for z in output.T]
    return torch.stack(derivatives).norm(dim=0)


@pytest.mark.parametrize('entry', ENTRIES, ids=lambda entry: entry['arch'])
def test_golden(entry):
    size = entry['img_size']
    model = golden_backbone(entry, norm_cfg=None)
    gaussian = torch.randn(3 * size * size, 2, generator=torch.Generator().manual_seed(1)).double()
    basis = torch.linalg.qr(gaussian)[0]
    expected = torch.tensor(entry['length_distortion_per_theta'], dtype=torch.float64)
    torch.testing.assert_close(output_speeds(model, basis, size), expected, rtol=1e-8, atol=0)
    score = length_distortion(model, basis, size)
    assert score.value == pytest.approx(entry['length_distortion_sum'], rel=1e-8)


@pytest.mark.parametrize('norm_cfg', [None, dict(type='LN')])
def test_agrees_with_one_coordinate_at_a_time(norm_cfg):
    torch.manual_seed(0)
    model = AsViT(TINY, img_size=24, norm_cfg=norm_cfg).double().eval()
    basis = curve_basis(24, torch.Generator().manual_seed(3))
    expected = slow_speeds(model, basis, 24, 4)
    torch.testing.assert_close(output_speeds(model, basis, 24, 4), expected, rtol=1e-9, atol=0)


def test_basis_is_orthonormal_and_reproducible():
    basis = curve_basis((8, 12), torch.Generator().manual_seed(0))
    assert basis.shape == (3 * 8 * 12, 2)
    torch.testing.assert_close(basis.T @ basis, torch.eye(2, dtype=torch.float64))
    torch.testing.assert_close(basis, curve_basis((8, 12), torch.Generator().manual_seed(0)))


def test_model_is_left_as_it_was():
    model = AsViT(TINY, img_size=24, drop_path_rate=0.5, norm_cfg=None).train()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    basis = curve_basis(24, torch.Generator().manual_seed(0))
    first, second = (length_distortion(model, basis, 24) for _ in range(2))
    assert first == second
    assert model.training
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_a_broken_network_is_reported_with_the_reason():
    model = AsViT(TINY, img_size=24, norm_cfg=None)
    torch.nn.init.constant_(model.stages[2].blocks[0].ffn.fc1.weight, math.nan)
    score = length_distortion(model, curve_basis(24, torch.Generator().manual_seed(0)), 24)
    assert not score.valid
    assert 'NaN' in score.reason
    assert math.isnan(score.value)
