"""Models that are not ours: each measure against its definition, with models that make a shortcut wrong."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from asvit_mm.errors import InputError
from asvit_mm.measures import MEASURES, AnyModel, ProbeNetwork, measure_network, without_norms
from asvit_mm.measures.any_model import count_multiply_adds, has_norms
from asvit_mm.measures.curves import curve_derivatives, output_derivatives
from asvit_mm.measures.ntk import gram_of_model, ntk_gram

from .small import circle, derivative_by_coordinate, images
from .test_ntk import slow_gram


class Net(nn.Module):
    """Patches, one attention layer with whatever ``mask`` and class token, feed-forward, norms."""

    def __init__(self, mask=None, token=False, windows=False):
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 7, 6, padding=2, groups=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.token = nn.Parameter(torch.randn(1, 1, 8)) if token else None
        self.norm1, self.qkv = nn.LayerNorm(8), nn.Linear(8, 24)
        self.mlp = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8))
        self.norm = nn.LayerNorm(8)
        self.mask, self.windows = mask, windows

    def forward(self, x):
        x = self.depthwise(self.embed(x)).flatten(2).mT  # (B, 16, 8)
        if self.windows:  # images as the faster axis: rows of one image are not one after the other
            x = x.unflatten(1, (4, 4)).transpose(0, 1).flatten(0, 1)
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        q, k, v = qkv
        if self.token is not None:
            q = self.token.expand(len(x), -1, -1).unflatten(-1, (2, 4)).transpose(1, 2)
        x = x + F.scaled_dot_product_attention(q, k, v, self.mask).transpose(1, 2).flatten(2)
        x = self.norm(x + self.mlp(x))
        if self.windows:
            x = x.unflatten(0, (4, -1)).transpose(0, 1).flatten(1, 2)
        return x


class Torch(nn.Module):
    """Weights that no module of theirs is called with, and a layer that is called twice."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 6, 6)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.twice, self.norm = nn.Linear(8, 8), nn.BatchNorm1d(16)

    def forward(self, x):
        x = self.embed(x).flatten(2).mT
        x = x + self.attention(x, x, x)[0]
        return self.norm(self.twice(self.twice(x).tanh()))


def bias():
    return torch.randn(1, 2, 16, 16, dtype=torch.float64)


NETS = {
    'plain': Net,
    'bias': lambda: Net(bias()),
    'padding': lambda: Net(torch.arange(16)[None, None, None] < 11),
    'class token': lambda: Net(token=True),
    'windows': lambda: Net(windows=True),
    'torch': Torch,
}


@pytest.fixture(params=NETS)
def model(request):
    torch.manual_seed(0)
    return AnyModel(NETS[request.param]().double(), 24)


def test_ntk(model):
    batch = images(3).double()
    torch.testing.assert_close(
        gram_of_model(model, batch), slow_gram(model, batch), rtol=1e-9, atol=1e-12
    )


def test_ntk_of_plain_layers_takes_one_pass():
    torch.manual_seed(0)
    model, batch = AnyModel(Net().double(), 24), images(3).double()
    torch.testing.assert_close(
        ntk_gram(model, batch), slow_gram(model, batch), rtol=1e-9, atol=1e-12
    )


def test_derivatives_without_norms(model):
    model, curve = without_norms(model), circle()
    assert not has_norms(model)
    angles = torch.linspace(0, 2 * torch.pi, 10, dtype=torch.float64, requires_grad=True)
    points = (curve.basis @ torch.stack([angles.cos(), angles.sin()])).T
    with sdpa_kernel(SDPBackend.MATH):
        z = model.pooled_tokens(points.reshape(10, 3, 24, 24))
    v = derivative_by_coordinate(z, angles)
    a = derivative_by_coordinate(v, angles)
    torch.testing.assert_close(output_derivatives(model, curve), v, rtol=1e-8, atol=1e-12)
    for fast, slow in zip(curve_derivatives(model, curve), (v, a), strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-8, atol=1e-12)


def test_all_measures():
    found = [
        measure_network(ProbeNetwork(lambda: AnyModel(Net(), 24), 24, (0,), 0, images(3)), MEASURES)
        for _ in range(2)
    ]
    assert found[0] == found[1]
    assert all(score.valid for score in found[0].values())
    assert (
        found[0]['params'].value == sum(p.numel() for p in Net().parameters()) - 16
    )  # the output norm
    per_token = 8 * 3 * 49 + 8 * 2 * 9 + 8 * 24 + 2 * 16 * 8 + 2 * 8 * 12
    assert found[0]['flops'].value == 16 * per_token
    assert count_multiply_adds(AnyModel(Net(token=True), 24), 24) < 16 * per_token


def test_the_output():
    torch.manual_seed(0)
    model = AnyModel(Net(), 24)
    assert isinstance(model.network.norm, nn.Identity)
    tokens = model.last_tokens(images(2))
    assert tokens.shape == (2, 16, 8)
    model.output = 'tokens'
    torch.testing.assert_close(model.pooled_tokens(images(2)), tokens.flatten(1))

    class Maps(nn.Module):
        def __init__(self, permuted):
            super().__init__()
            self.conv, self.permuted = nn.Conv2d(3, 5, 8, 8), permuted
            if permuted:
                self.num_features = 5

        def forward(self, x):
            x = self.conv(x)
            return ('other', x.permute(0, 2, 3, 1) if self.permuted else x)

    for permuted in (True, False):
        assert AnyModel(Maps(permuted), 24).last_tokens(images(2)).shape == (2, 9, 5)


class Silu(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 8, 8)

    def forward(self, x):
        return F.silu(self.conv(x))


def test_what_cannot_be_measured():
    with pytest.raises(InputError, match='cannot take an image of 20 x 20 pixels'):
        AnyModel(nn.Sequential(nn.Flatten(), nn.Linear(3, 4)), 20)
    with pytest.raises(InputError, match=r'returns .*, not tokens'):
        AnyModel(nn.Conv3d(1, 1, 1), 20).last_tokens(torch.ones(1, 1, 2, 2, 2))
    probe = ProbeNetwork(lambda: AnyModel(Silu(), 24), 24, (0,), 0, images(3))
    scores = measure_network(probe, ['length_distortion', 'extrinsic_curvature'])
    assert scores['length_distortion'].valid
    assert 'forward AD' in scores['extrinsic_curvature'].reason
