import pytest
import torch

from asvit_mm.arch import Architecture
from asvit_mm.errors import InputError
from asvit_mm.measures import ImageCircle, ProbeNetwork
from asvit_mm.models import AsViT

from .small import TINY


def probe(*seed, index=0):
    return ProbeNetwork(Architecture.parse(TINY), 24, seed, index)


def test_a_circle_is_orthonormal_and_reproducible():
    circle = ImageCircle.random((8, 12), torch.Generator().manual_seed(0))
    assert circle.basis.shape == (3 * 8 * 12, 2)
    torch.testing.assert_close(circle.basis.T @ circle.basis, torch.eye(2, dtype=torch.float64))
    again = ImageCircle.random((8, 12), torch.Generator().manual_seed(0))
    assert torch.equal(circle.basis, again.basis)
    images, directions = circle.images(torch.empty(0))
    assert images.shape == directions.shape == (10, 3, 8, 12)
    assert images.dtype == torch.float32
    torch.testing.assert_close(images[0], images[-1])
    torch.testing.assert_close(images.flatten(1).norm(dim=1), torch.ones(10))
    torch.testing.assert_close((images * directions).sum((1, 2, 3)), torch.zeros(10))


def test_the_norm_free_network_shares_the_weights():
    p = probe(0)
    assert isinstance(p.norm_free, AsViT)
    weights = dict(p.network.named_parameters())
    shared = dict(p.norm_free.named_parameters())
    assert set(weights) - set(shared) == {name for name in weights if 'norm' in name}
    assert all(value.data_ptr() == weights[name].data_ptr() for name, value in shared.items())


def test_the_curve_is_that_of_the_run_and_the_weights_are_those_of_the_step():
    def weight(p):
        return p.network.patch_embed.proj.weight

    first, next_step, other_run = probe(7, 1), probe(7, 2), probe(8, 1)
    assert torch.equal(first.circle.basis, next_step.circle.basis)
    assert not torch.equal(first.circle.basis, other_run.circle.basis)
    assert not torch.equal(weight(first), weight(next_step))
    assert torch.equal(weight(first), weight(probe(7, 1)))
    assert not torch.equal(weight(first), weight(probe(7, 1, index=1)))


def test_missing_images():
    with pytest.raises(InputError, match='pass a batch of images'):
        _ = probe(0).images
