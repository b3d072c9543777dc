"""Cheap proxies from the literature, for comparison, as they apply to a backbone without labels.

Each is a sum over weights of what one backward pass gives. They look at z, the model's ``pooled_tokens``,
as the other measures do: there is no head, no label and no output norm (after which sum(z) would not
depend on the weights). The model is never changed: the passes run on copies of its parameters.
"""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..models import AsViT
from ..tokens import as_pair
from .calling import evaluating, has_norms, pooled_tokens
from .memory import backward_bytes, images_at_a_time, until_it_fits
from .score import Score


def gradient_norm(model: AsViT, images: Tensor, *, memory_limit: int | None = None) -> Score:
    """Sum over the weights of convolutions and linear layers of the gradient's L2 norm; higher is better.

    Source: Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS, ICLR 2021 (arXiv 2101.08134), section
    3.1, where the gradient is that of the training loss on one batch. Without head and labels the loss
    here is the batch's mean of sum(z), whose gradient for one image is the one that the NTK
    condition number looks at.

    Args:
        model: the network, with its norms.
        images: (B, 3, H, W), at least one.
        memory_limit: bytes that activations and gradients may take on top of the model; None: no limit. More
            images than fit are taken in several passes.

    Raises:
        InputError: no image, or a limit in which one image does not fit.
    """
    if not len(images):
        raise InputError('no image has no gradient: give at least one')
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    itemsize = images.element_size()
    at_a_time = images_at_a_time(
        len(images),
        each=backward_bytes(model.architecture, (images.shape[2], images.shape[3]), itemsize),
        limit=memory_limit,
        # The sum of the gradients, and those of one pass.
        fixed=2 * sum(value.numel() for value in parameters.values()) * itemsize,
    )

    def norms(n: int) -> float:
        parts = (
            _weight_gradients(model, parameters, part, 1 / len(images)) for part in images.split(n)
        )
        total = next(parts)
        for gradients in parts:
            for name, gradient in gradients.items():
                total[name] += gradient
        return sum(gradient.double().norm().item() for gradient in total.values())

    return _score(until_it_fits(norms, at_a_time))


def synflow(model: AsViT, img_size: int | tuple[int, int]) -> Score:
    """Synaptic flow: sum over the same weights of |w dR/dw|; higher is better.

    Source: Tanaka et al., Pruning neural networks without any data by iteratively conserving synaptic flow,
    NeurIPS 2020 (arXiv 2006.05467), section 5; as a proxy for search Abdelfattah et al. (arXiv 2101.08134).
    R is the sum of z for one image of ones, with the absolute value of every parameter. No image is needed.

    Layer norms stay, as in published implementations for transformers, which take out batch norms only.
    Without them the scores of positive weights are so large that rounding decides which of the nearly
    equal tokens the softmax chooses, and with it the gradient.

    Args:
        model: the network, with its norms.
        img_size: pixels, one side or (height, width).

    Raises:
        InputError: the network has identity norms.
    """
    _check_norms(model)
    parameters = _absolute(model)
    gradients = _weight_gradients(model, parameters, _ones(model, img_size, parameters), 1.0)
    return _score(sum(_saliency(parameters[name], g) for name, g in gradients.items()))


def dss_indicator(model: AsViT, img_size: int | tuple[int, int]) -> Score:
    """DSS of TF-TAS: synaptic diversity of attention plus synaptic saliency of the rest; higher is better.

    Source: Zhou et al., Training-free Transformer Architecture Search, CVPR 2022 (arXiv 2203.12217), section
    3, and its code (github.com/decemberzhou/TF_TAS, lib/training_free/indicators/dss.py). R is the sum of
    the output for one image of ones with the absolute value of every parameter, norms left in, and

        sum over qkv and output projections of ||dR/dW||_nuc ||W||_nuc
        + sum over all other linear layers of sum |W dR/dW|

    As in that code, the convolution, norms and biases are not counted. Differences: there is no head
    to count; patch mergings, which its transformers do not have, are counted by its rule for linear layers
    outside attention; output projections are told by their type, where the code tells them by being
    square; float64 instead of float32.

    Args:
        model: the network, with its norms.
        img_size: pixels, one side or (height, width).

    Raises:
        InputError: the network has identity norms.
    """
    _check_norms(model)
    parameters = _absolute(model)
    gradients = _weight_gradients(model, parameters, _ones(model, img_size, parameters), 1.0)
    if not all(gradient.isfinite().all() for gradient in gradients.values()):
        return _score(math.nan)  # the singular values of such a matrix cannot be computed
    total = 0.0
    for name, module in _weighted_layers(model):
        weight, gradient = parameters[name], gradients[name]
        if '.attn.' in name:
            norms = [torch.linalg.matrix_norm(m, 'nuc').item() for m in (gradient, weight.detach())]
            total += norms[0] * norms[1]
        elif isinstance(module, nn.Linear):
            total += _saliency(weight, gradient)
    return _score(total)


def _check_norms(model: AsViT) -> None:
    if not has_norms(model):
        raise InputError(
            'without norms rounding decides the gradients of positive weights: give the network with norms'
        )


def _weighted_layers(model: AsViT) -> Iterator[tuple[str, nn.Module]]:
    """Name of the weight, and the layer, of every convolution and linear layer."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            yield f'{name}.weight', module


def _weight_gradients(
    model: AsViT, parameters: Mapping[str, Tensor], images: Tensor, factor: float
) -> dict[str, Tensor]:
    """Gradient of factor * sum(z) with respect to the weight of every convolution and linear layer."""
    weights = {name: parameters[name].requires_grad_() for name, _ in _weighted_layers(model)}
    with torch.enable_grad(), evaluating(model):
        total = factor * pooled_tokens(model, parameters, images).sum()
    return dict(zip(weights, torch.autograd.grad(total, list(weights.values())), strict=True))


def _absolute(model: AsViT) -> dict[str, Tensor]:
    """|theta| of every parameter, float64 copies."""
    return {name: value.detach().double().abs() for name, value in model.named_parameters()}


def _ones(
    model: AsViT, img_size: int | tuple[int, int], parameters: Mapping[str, Tensor]
) -> Tensor:
    """One image of ones (1, C, H, W)."""
    channels = model.patch_embed.proj.in_channels
    like = next(iter(parameters.values()))
    return torch.ones(1, channels, *as_pair(img_size), dtype=like.dtype, device=like.device)


def _saliency(weight: Tensor, gradient: Tensor) -> float:
    return (weight.detach() * gradient).abs().sum().item()


def _score(total: float) -> Score:
    if not math.isfinite(total):
        return Score.bad('the gradients have NaN or infinite entries')
    return Score(total)
