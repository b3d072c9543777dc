import math

import pytest
import torch
from torch.nn import functional as F

from asvit_mm.errors import InputError
from asvit_mm.measures import Score, curve_basis, extrinsic_curvature, gauss_map_length
from asvit_mm.measures.curvature import curve_derivatives, second_order_bytes
from asvit_mm.measures.length_distortion import output_speeds
from asvit_mm.models import AsViT

TINY = '5,2,2,1|3,2,3,1|2,1,2,1|3,1,2,1|16,16'
NARROW = '5,2,2,1|3,2,3,1|2,1,2,1|3,1,2,1|16,4'
MEASURES = [extrinsic_curvature, gauss_map_length]


def network(size, arch=TINY):
    torch.manual_seed(0)
    return AsViT(arch, img_size=size, use_abs_pos_embed=False, norm_cfg=None)


def basis_of(size, seed=3):
    return curve_basis(size, torch.Generator().manual_seed(seed))


def slow_velocity(model, basis, size, angles):
    """dz/dt (angles, C4), one backward pass an output coordinate; itself differentiable."""
    images = (basis @ torch.stack([angles.cos(), angles.sin()])).T
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        output = model.pooled_tokens(images.reshape(len(angles), 3, size, size))
    return by_coordinate(output, angles)


def by_coordinate(values, angles):
    rows = [torch.autograd.grad(x.sum(), angles, create_graph=True)[0] for x in values.T]
    return torch.stack(rows, 1)


@pytest.mark.parametrize('size', [16, 18])
def test_agree_with_backward_passes_coordinate_by_coordinate(size):
    model, basis = network(size, NARROW).double().eval(), basis_of(size)
    angles = torch.linspace(0, 2 * math.pi, 3, dtype=torch.float64).requires_grad_()
    v = slow_velocity(model, basis, size, angles)
    a = by_coordinate(v, angles)
    fast_v, fast_a = curve_derivatives(model, basis, size, 3)
    torch.testing.assert_close(fast_v, v.detach(), rtol=1e-9, atol=1e-15)
    torch.testing.assert_close(fast_a, a.detach(), rtol=1e-8, atol=1e-14)

    vv, aa, va = (v * v).sum(1), (a * a).sum(1), (v * a).sum(1)
    curvature = (vv**-1.5 * (vv * aa - va**2).sqrt()).sum().item()
    assert extrinsic_curvature(model, basis, size, 3).value == pytest.approx(curvature, rel=1e-8)

    step = 1e-5
    before, after = (
        F.normalize(slow_velocity(model, basis, size, angles + offset)) for offset in (-step, step)
    )
    length = ((after - before) / (2 * step)).norm(dim=1).sum().item()
    assert gauss_map_length(model, basis, size, 3).value == pytest.approx(length, rel=1e-5)


def test_agrees_with_finite_differences():
    size, step = 16, 1e-4
    model, basis = network(size).double().eval(), basis_of(size)
    angle = torch.linspace(0, 2 * math.pi, 4, dtype=torch.float64)

    def output(offset):
        images = (basis @ torch.stack([(angle + offset).cos(), (angle + offset).sin()])).T
        with torch.no_grad():
            return model.pooled_tokens(images.reshape(4, 3, size, size))

    before, here, after = (output(offset) for offset in (-step, 0, step))
    v, a = curve_derivatives(model, basis, size, 4)
    torch.testing.assert_close(v, (after - before) / (2 * step), rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(a, (after - 2 * here + before) / step**2, rtol=1e-3, atol=1e-8)


def test_the_velocity_is_that_of_the_length_distortion():
    model, basis = network(24).double(), basis_of(24)
    v, _ = curve_derivatives(model, basis, 24)
    torch.testing.assert_close(v.norm(dim=1), output_speeds(model, basis, 24), rtol=1e-9, atol=0)


class Circle(AsViT):
    """Its output is the image's first three pixels, times ``radius``: the circle itself, enlarged."""

    radius = 1.0

    def pooled_tokens(self, x):
        return self.radius * x.flatten(1)[:, :3]


@pytest.mark.parametrize('radius', [0.5, 4.0])
def test_circles(radius):
    """A circle of radius r bends by 1 / r at each angle, and its direction turns by 1 a radian."""
    model = Circle(TINY, norm_cfg=None).double()
    model.radius = radius
    basis = torch.zeros(3 * 4 * 4, 2, dtype=torch.float64)
    basis[0, 0] = basis[1, 1] = 1
    assert extrinsic_curvature(model, basis, 4, 5).value == pytest.approx(5 / radius, rel=1e-12)
    assert gauss_map_length(model, basis, 4, 5).value == pytest.approx(5, rel=1e-12)


@pytest.mark.parametrize('function', MEASURES)
def test_single_precision_is_close(function):
    basis = basis_of(24)
    double = function(network(24).double(), basis, 24).value
    assert function(network(24), basis, 24).value == pytest.approx(double, rel=1e-3)


@pytest.mark.parametrize('function', MEASURES)
def test_model_is_left_as_it_was(function):
    model = AsViT(TINY, img_size=24, drop_path_rate=0.5, norm_cfg=None).train()
    model.stages[1].eval()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    first, second = (function(model, basis_of(24), 24) for _ in range(2))
    assert first == second
    assert model.training
    assert not model.stages[1].training
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize('function', MEASURES)
def test_bad_networks_are_reported_with_the_reason(function):
    model = network(24)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    assert 'does not move' in function(model, basis_of(24), 24).reason
    torch.nn.init.constant_(model.stages[2].blocks[0].ffn.fc1.weight, math.nan)
    score = function(model, basis_of(24), 24)
    assert not score.valid
    assert 'NaN' in score.reason


@pytest.mark.parametrize('function', MEASURES)
def test_networks_with_norms_are_refused(function):
    with pytest.raises(InputError, match='norm_cfg=None'):
        function(AsViT(TINY, img_size=24), basis_of(24), 24)


class Kink(AsViT):
    """Its output has a first derivative everywhere, and no second one where a pixel is 0."""

    def pooled_tokens(self, x):
        x = x.flatten(1)[:, :2]
        return x + x.abs() ** 1.5


def test_no_second_derivative_is_bad():
    basis = torch.zeros(3 * 4 * 4, 2, dtype=torch.float64)
    basis[0, 0] = basis[1, 1] = 1
    score = extrinsic_curvature(Kink(TINY, norm_cfg=None).double(), basis, 4, 1)
    assert not score.valid
    assert score.reason.startswith('the second derivative')


class Counting(AsViT):
    """Notes how many images it is called with, and fails where they are more than ``fits``."""

    fits = 100

    def pooled_tokens(self, x):
        self.called = [*getattr(self, 'called', []), len(x)]
        if len(x) > self.fits:
            raise torch.cuda.OutOfMemoryError('too many')
        return super().pooled_tokens(x)


def counting(fits):
    torch.manual_seed(0)
    model = Counting(TINY, img_size=16, norm_cfg=None).double()
    model.fits = fits
    return model


def test_memory_limits_the_images_at_a_time():
    basis, model = basis_of(16), counting(100)
    whole = extrinsic_curvature(model, basis, 16)
    assert set(model.called) == {10}
    one = second_order_bytes(model.architecture, 16, 8)
    model.called = []
    parts = extrinsic_curvature(model, basis, 16, memory_limit=4 * one)
    assert model.called == [4, 4, 2]
    assert parts.value == pytest.approx(whole.value, rel=1e-12)
    with pytest.raises(InputError, match='too little memory'):
        extrinsic_curvature(model, basis, 16, memory_limit=one - 1)


def test_what_does_not_fit_runs_in_parts():
    whole = extrinsic_curvature(counting(100), basis_of(16), 16)
    model = counting(3)
    parts = extrinsic_curvature(model, basis_of(16), 16)
    assert isinstance(parts, Score)
    assert parts.value == pytest.approx(whole.value, rel=1e-12)
    assert model.called == [10, 5, 3, 3, 3, 1]
    with pytest.raises(InputError, match='no memory for one image'):
        extrinsic_curvature(counting(0), basis_of(16), 16)
