"""Each proxy against its published recipe: a deep copy whose parameters are overwritten, and plain loops."""

import copy
import math

import pytest
import torch
from torch import nn

from asvit_mm.errors import InputError
from asvit_mm.measures import dss_indicator, gradient_norm, synflow
from asvit_mm.measures.memory import backward_bytes
from asvit_mm.models import AsViT

TINY = '5,2,2,1|3,2,3,2|2,1,2,1|3,1,2,1|16,16'
LN = dict(type='LN')


def network(size=24, norm_cfg=LN, arch=TINY):
    torch.manual_seed(0)
    return AsViT(arch, img_size=size, use_abs_pos_embed=False, norm_cfg=norm_cfg)


def images(count, size=24):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(2))


def absolute(model):
    """A copy whose parameters are their absolute values, with the gradients for one image of ones."""
    model = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
            parameter.requires_grad_()
    return model


def backward_of_ones(model, size):
    height, width = size if isinstance(size, tuple) else (size, size)
    model.pooled_tokens(torch.ones(1, 3, height, width, dtype=torch.float64)).sum().backward()


def slow_gradient_norm(model, batch):
    model = copy.deepcopy(model).double().eval().requires_grad_()
    loss = sum(model.pooled_tokens(image[None]).sum() for image in batch.double()) / len(batch)
    loss.backward()
    total = 0.0
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            total += math.sqrt(sum(g**2 for g in module.weight.grad.flatten().tolist()))
    return total


def slow_synflow(model, size):
    model = absolute(model)
    backward_of_ones(model, size)
    total = 0.0
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            weights, gradients = module.weight.flatten().tolist(), module.weight.grad.flatten()
            total += sum(abs(w * g) for w, g in zip(weights, gradients.tolist(), strict=True))
    return total


def nuclear(matrix):
    """Sum of the singular values, from the eigenvalues of the smaller of A A^T and A^T A."""
    matrix = matrix.detach()
    gram = matrix @ matrix.T if len(matrix) < matrix.shape[1] else matrix.T @ matrix
    return torch.linalg.eigvalsh(gram).clamp_min(0).sqrt().sum().item()


def slow_dss(model, size):
    model = absolute(model)
    backward_of_ones(model, size)
    total = 0.0
    for stage in model.stages:
        if hasattr(stage.merging, 'reduction'):
            weight = stage.merging.reduction.weight
            total += (weight * weight.grad).abs().sum().item()
        for block in stage.blocks:
            for weight in (block.attn.qkv.weight, block.attn.proj.weight):
                total += nuclear(weight.grad) * nuclear(weight)
            for weight in (block.ffn.fc1.weight, block.ffn.fc2.weight):
                total += (weight * weight.grad).abs().sum().item()
    return total


@pytest.mark.parametrize('norm_cfg', [LN, None])
@pytest.mark.parametrize('size', [24, 27])
def test_gradient_norm(norm_cfg, size):
    model = network(size, norm_cfg)
    expected = slow_gradient_norm(model, images(3, size))
    assert gradient_norm(model, images(3, size)).value == pytest.approx(expected, rel=1e-4)
    one = backward_bytes(model.architecture, size, 4)
    held = 8 * sum(p.numel() for p in model.parameters())
    parts = gradient_norm(model, images(3, size), memory_limit=2 * one + held)
    assert parts.value == pytest.approx(expected, rel=1e-4)
    double = gradient_norm(model.double(), images(3, size).double())
    assert double.value == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize('size', [24, (20, 28)])
def test_synflow(size):
    model = network()
    assert synflow(model, size).value == pytest.approx(slow_synflow(model, size), rel=1e-10)


@pytest.mark.parametrize('size', [24, (20, 28)])
def test_dss(size):
    model = network()
    assert dss_indicator(model, size).value == pytest.approx(slow_dss(model, size), rel=1e-6)


def test_heads_that_do_not_fill_the_width():
    """Output projections are not square there, and count as attention all the same."""
    model = network(arch='5,2,2,1|3,2,3,1|2,1,2,1|3,1,2,1|16,17')
    assert model.stages[0].blocks[0].attn.proj.weight.shape == (17, 16)
    assert dss_indicator(model, 24).value == pytest.approx(slow_dss(model, 24), rel=1e-6)


def calls(model):
    batch = images(3).to(next(model.parameters()))
    return [
        lambda: gradient_norm(model, batch),
        lambda: synflow(model, 24),
        lambda: dss_indicator(model, 24),
    ]


@pytest.mark.parametrize('i', range(3))
def test_model_is_left_as_it_was(i):
    model = AsViT(TINY, img_size=24, drop_path_rate=0.5, frozen_stages=1).train()
    model.stages[3].eval()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    wanted = [p.requires_grad for p in model.parameters()]
    modes = [m.training for m in model.modules()]
    first, second = (calls(model)[i]() for _ in range(2))
    assert first == second
    assert [p.requires_grad for p in model.parameters()] == wanted
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize('i', range(3))
def test_parameters_without_gradients_and_no_grad_mode(i):
    model = network()
    expected = calls(model)[i]()
    model.requires_grad_(False)
    with torch.no_grad():
        assert calls(model)[i]() == expected


@pytest.mark.parametrize('i', range(3))
def test_bad_networks_are_reported_with_the_reason(i):
    model = network()
    torch.nn.init.constant_(model.stages[2].blocks[0].ffn.fc1.weight, math.nan)
    score = calls(model)[i]()
    assert not score.valid
    assert 'NaN' in score.reason


@pytest.mark.parametrize('function', [synflow, dss_indicator])
def test_overflow_is_bad(function):
    model = network().double()
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.constant_(module.weight, 1e200)
    assert not function(model, 24).valid


@pytest.mark.parametrize('function', [synflow, dss_indicator])
def test_rounding_does_not_decide(function):
    """The scores move as little as the weights do; without norms they would not."""
    model = network(arch='small').double()
    before = function(model, 32).value
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + 1e-10 * torch.randn_like(parameter))
    assert function(model, 32).value == pytest.approx(before, rel=1e-8)
    with pytest.raises(InputError, match='with norms'):
        function(network(norm_cfg=None), 32)
