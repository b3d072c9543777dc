"""Each proxy against its published recipe: a deep copy whose parameters are overwritten, and plain loops."""

import copy
import math

import pytest
import torch
from torch import nn

from asvit_mm.errors import InputError
from asvit_mm.measures import (
    auto_prox,
    dss_indicator,
    gradient_norm,
    naswot,
    synflow,
    token_entropy,
)
from asvit_mm.measures.memory import backward_bytes

from .small import LN, images, network

DEEPER = '5,2,2,1|3,2,3,2|2,1,2,1|3,1,2,1|16,16'


def slow_gradient_norm(model, batch):
    model = copy.deepcopy(model).double().eval().requires_grad_()
    loss = sum(model.pooled_tokens(image[None]).sum() for image in batch.double()) / len(batch)
    loss.backward()
    layers = (m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear)))
    return sum(math.sqrt(sum(g**2 for g in m.weight.grad.flatten().tolist())) for m in layers)


def with_gradients_of_ones(model, size):
    """A copy whose parameters are their absolute values, with the gradients for one image of ones."""
    model = copy.deepcopy(model).double().eval().requires_grad_()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
    height, width = size if isinstance(size, tuple) else (size, size)
    model.pooled_tokens(torch.ones(1, 3, height, width, dtype=torch.float64)).sum().backward()
    return model


def saliency(weight):
    gradients = weight.grad.flatten().tolist()
    return sum(abs(w * g) for w, g in zip(weight.flatten().tolist(), gradients, strict=True))


def slow_synflow(model, size):
    layers = with_gradients_of_ones(model, size).modules()
    return sum(saliency(m.weight) for m in layers if isinstance(m, (nn.Conv2d, nn.Linear)))


def nuclear(matrix):
    """Sum of the singular values, from the eigenvalues of the smaller of A A^T and A^T A."""
    matrix = matrix.detach()
    gram = matrix @ matrix.T if len(matrix) < matrix.shape[1] else matrix.T @ matrix
    return torch.linalg.eigvalsh(gram).clamp_min(0).sqrt().sum().item()


def slow_dss(model, size):
    total = 0.0
    for stage in with_gradients_of_ones(model, size).stages:
        if hasattr(stage.merging, 'reduction'):
            total += saliency(stage.merging.reduction.weight)
        for block in stage.blocks:
            for weight in (block.attn.qkv.weight, block.attn.proj.weight):
                total += nuclear(weight.grad) * nuclear(weight)
            total += saliency(block.ffn.fc1.weight) + saliency(block.ffn.fc2.weight)
    return total


@pytest.mark.parametrize(('size', 'norm_cfg'), [(24, LN), (27, LN), (27, None)])
def test_gradient_norm(size, norm_cfg):
    model = network(DEEPER, size, norm_cfg)
    expected = slow_gradient_norm(model, images(3, size))
    assert gradient_norm(model, images(3, size)).value == pytest.approx(expected, rel=1e-4)
    limit = 2 * backward_bytes(model.architecture, size, 4)
    limit += 8 * sum(p.numel() for p in model.parameters())
    parts = gradient_norm(model, images(3, size), memory_limit=limit)
    assert parts.value == pytest.approx(expected, rel=1e-4)
    double = gradient_norm(model.double(), images(3, size).double())
    assert double.value == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize('size', [24, (20, 28)])
def test_synflow_and_dss(size):
    model = network(DEEPER)
    assert synflow(model, size).value == pytest.approx(slow_synflow(model, size), rel=1e-10)
    assert dss_indicator(model, size).value == pytest.approx(slow_dss(model, size), rel=1e-6)


def slow_auto_prox(model, size):
    total = 0.0
    for name, module in with_gradients_of_ones(model, size).named_modules():
        if isinstance(module, nn.Linear):
            gradients = module.weight.grad.flatten().tolist()
            if name.endswith(('attn.qkv', 'attn.proj')):
                total += sum(map(abs, gradients))
            else:
                total += sum(1 / (1 + math.exp(-g)) for g in gradients) / len(gradients)
    return total


def slow_naswot(model, batch):
    seen = []
    for stage in model.stages:
        for block in stage.blocks:
            block.ffn.fc1.register_forward_hook(lambda module, _, out: seen.append(out))
    model.pooled_tokens(batch)
    codes = torch.cat([out.reshape(len(batch), -1) > 0 for out in seen], 1).tolist()
    kernel = [[sum(a == b for a, b in zip(i, j, strict=True)) for j in codes] for i in codes]
    return torch.tensor(kernel, dtype=torch.float64).logdet().item()


def slow_token_entropy(model, batch):
    entropies = []
    for tokens in model.last_tokens(batch).flatten(1, 2):
        spectrum = torch.linalg.eigvalsh(tokens.T.cov(correction=0)).clamp_min(1e-300)
        spectrum = (spectrum / spectrum.sum()).tolist()
        entropies.append(-sum(p * math.log(p) for p in spectrum))
    return sum(entropies) / len(entropies)


def test_auto_prox_naswot_and_token_entropy():
    model, batch = network(DEEPER, 64).double().eval(), images(3, 64).double()
    assert auto_prox(model, 64).value == pytest.approx(slow_auto_prox(model, 64), rel=1e-10)
    assert naswot(model, batch).value == pytest.approx(slow_naswot(model, batch), rel=1e-6)
    expected = slow_token_entropy(model, batch)
    assert 0 < expected < math.log(3)
    assert token_entropy(model, batch).value == pytest.approx(expected, rel=1e-6)
    assert token_entropy(model, batch[..., :24, :24]).value == 0  # one token
    assert not naswot(model, batch[:1].expand(3, -1, -1, -1)).valid


def test_heads_that_do_not_fill_the_width():
    """Output projections are not square there, and count as attention all the same."""
    model = network('5,2,2,1|3,2,3,1|2,1,2,1|3,1,2,1|16,17')
    assert model.stages[0].blocks[0].attn.proj.weight.shape == (17, 16)
    assert dss_indicator(model, 24).value == pytest.approx(slow_dss(model, 24), rel=1e-6)


def test_gradients_that_are_disabled():
    def scores():
        return [
            gradient_norm(model, images(3)),
            synflow(model, 24),
            dss_indicator(model, 24),
        ]

    model = network()
    expected = scores()
    model.requires_grad_(False)
    with torch.no_grad():
        assert scores() == expected
    with pytest.raises(InputError, match='at least one'):
        gradient_norm(model, images(0))


@pytest.mark.parametrize('function', [synflow, dss_indicator, auto_prox])
def test_overflow_is_bad(function):
    model = network().double()
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.constant_(module.weight, 1e200)
    assert not function(model, 24).valid


@pytest.mark.parametrize('function', [synflow, dss_indicator])
def test_rounding_does_not_decide(function):
    """The scores move as little as the weights do; without norms they would not."""
    model = network('8,2,3,3|4,1,2,1|4,1,4,4|4,1,6,2|32,32', 32).double()
    before = function(model, 32).value
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + 1e-10 * torch.randn_like(parameter))
    assert function(model, 32).value == pytest.approx(before, rel=1e-8)
    with pytest.raises(InputError, match='with norms'):
        function(network(norm_cfg=None), 32)
