"""Zero-cost proxies from the literature, for comparison, adapted to a backbone without labels.

Each is a sum over weights, computed from one backward pass. Like the other measures they are functions of z,
the model's ``pooled_tokens``: there is no head, no label and no output norm (after which sum(z) would not
depend on the weights). ``model`` is the network with its norms; the passes run on copies of its parameters.
Linear layers include convolutions unless it is said otherwise.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..tokens import ImageSize, as_pair
from .any_model import has_norms
from .memory import activation_bytes, backward_bytes, forward_bytes, in_chunks
from .probe import Probed, eval_mode, pooled_tokens
from .score import Score

_NOT_FINITE = 'the gradients have NaN or infinite entries'


def gradient_norm(model: Probed, images: Tensor, *, memory_limit: int | None = None) -> Score:
    """Sum of the L2 norms of the gradients w.r.t. the weights of all linear layers; higher is better.

    Source: Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS, ICLR 2021 (arXiv 2101.08134), section
    3.1, where the loss is the training loss on one batch. Without head and labels it is the batch mean of
    sum(z), whose per-image gradients define the NTK.

    Args:
        images: (B, 3, H, W), at least one.
        memory_limit: bytes that activations and gradients may take, see :mod:`.memory`; None: no limit.

    Raises:
        InputError: no images, or the limit is too small for a single image.
    """
    if not len(images):
        raise InputError('the gradient norm of no images is undefined: give at least one')
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    itemsize = images.element_size()

    def sum_of_norms(chunk_size: int) -> float:
        total: dict[str, Tensor] = {}
        for chunk in images.split(chunk_size):
            gradients = _weight_gradients(model, parameters, chunk, 1 / len(images))
            for name, gradient in gradients.items():
                total[name] = total[name].add_(gradient) if name in total else gradient
        return sum(gradient.double().norm().item() for gradient in total.values())

    total = in_chunks(
        sum_of_norms,
        len(images),
        image_bytes=activation_bytes(backward_bytes, model, images.shape[2:], itemsize),
        # The sum of the gradients, and those of one pass.
        fixed_bytes=2 * sum(value.numel() for value in parameters.values()) * itemsize,
        memory_limit=memory_limit,
    )
    return Score.finite(total, _NOT_FINITE)


def synflow(model: Probed, img_size: ImageSize) -> Score:
    """Synaptic flow, the sum over the weights w of all linear layers of |w dR/dw|; higher is better.

    R is the sum of z for one image of ones of ``img_size``, with the absolute value of every parameter.
    Source: Tanaka et al., Pruning neural networks without any data by iteratively conserving synaptic flow,
    NeurIPS 2020 (arXiv 2006.05467), section 5; as a proxy for search Abdelfattah et al. (arXiv 2101.08134).

    Layer norms are kept, as in published implementations for transformers, which remove batch norms only.
    Without them the attention scores of positive weights are so large that rounding determines which of the
    nearly equal tokens the softmax selects, and thereby the gradient: an InputError.
    """
    pairs = _synaptic_gradients(model, img_size).values()
    total = sum((weight * gradient).abs().sum().item() for weight, gradient in pairs)
    return Score.finite(total, _NOT_FINITE)


def dss_indicator(model: Probed, img_size: ImageSize) -> Score:
    """DSS of TF-TAS: synaptic diversity of attention plus synaptic saliency of the rest; higher is better.

    With R as in :func:`synflow`,

        sum over qkv and output projections of ||dR/dW||_nuc ||W||_nuc
        + sum over all other linear layers of sum |W dR/dW|

    Source: Zhou et al., Training-free Transformer Architecture Search, CVPR 2022 (arXiv 2203.12217), section
    3, and its code (github.com/decemberzhou/TF_TAS, lib/training_free/indicators/dss.py). As in that code,
    convolutions, norms and biases do not count. Differences: there is no head to count; patch mergings,
    which its transformers do not have, count as linear layers outside attention; output projections are
    identified by their place, where that code identifies them by being square; float64, not float32.
    Arguments and errors are those of :func:`synflow`.
    """
    pairs = _synaptic_gradients(model, img_size)
    if not all(gradient.isfinite().all() for _, gradient in pairs.values()):
        return Score.bad(_NOT_FINITE)  # their singular values are undefined
    total = 0.0
    for name, module in _linear_layers(model):
        if name not in pairs:
            continue
        weight, gradient = pairs[name]
        if _in_attention(name) and weight.ndim == 2:
            diversity, size = (torch.linalg.matrix_norm(m, 'nuc') for m in (gradient, weight))
            total += diversity.item() * size.item()
        elif isinstance(module, nn.Linear):
            total += (weight * gradient).abs().sum().item()
    return Score.finite(total, _NOT_FINITE)


def auto_prox(model: Probed, img_size: ImageSize) -> Score:
    """The proxy that Auto-Prox found for AutoFormer; higher is better.

    With R as in :func:`synflow`, the sum over qkv and output projections of sum |dR/dW|, plus the sum over
    all other linear layers of the mean of sigmoid(dR/dW). Source: Wei et al., Auto-Prox, AAAI 2024 (arXiv
    2312.09059), figure 7, as OoD-ViT-NAS computes it. There is no head to count; float64, not float32.
    Arguments and errors are those of :func:`synflow`.
    """
    pairs = _synaptic_gradients(model, img_size)
    total = 0.0
    for name, module in _linear_layers(model):
        if name in pairs and isinstance(module, nn.Linear):
            gradient = pairs[name][1]
            total += (
                gradient.abs().sum() if _in_attention(name) else gradient.sigmoid().mean()
            ).item()
    return Score.finite(total, _NOT_FINITE)


def naswot(model: Probed, images: Tensor, *, memory_limit: int | None = None) -> Score:
    """Log determinant of the kernel of activation patterns of a batch; higher is better.

    K_ij is the number of hidden units of all activation functions (GELU, ReLU, SiLU and their like) that are
    positive, or not positive, for images i and j alike. Source: Mellor et al., Neural Architecture Search
    without Training, ICML 2021 (arXiv 2006.04647), section 3. Here the network keeps its initialisation.

    Args:
        images: (B, 3, H, W), at least two.
        memory_limit: bytes that activations may take, see :mod:`.memory`; None: no limit.
    """
    active = [m for m in model.modules() if re.search('GELU|ReLU|SiLU|Swish', type(m).__name__)]

    def codes(chunk: Tensor) -> Tensor:
        """Whether each hidden unit is positive, 0 or 1, or NaN where it is not finite, (images, units)."""
        found = [chunk.new_empty(len(chunk), 0)]

        def hook(module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
            found.append(((args[0] > 0) + 0 * args[0]).reshape(len(chunk), -1))

        with ExitStack() as hooks:
            for module in active:
                hooks.callback(module.register_forward_hook(hook).remove)
            model.last_tokens(chunk)
        return torch.cat(found, 1)

    code = _of_passes(codes, model, images, memory_limit)
    kernel = (code @ code.T + (1 - code) @ (1 - code).T).double()
    if not kernel.isfinite().all():
        return Score.bad('the activations have NaN or infinite entries')
    sign, logdet = torch.linalg.slogdet(kernel)
    reason = 'the kernel of activation patterns is singular (is there an activation module?)'
    return Score.finite(logdet.item(), reason) if sign > 0 else Score.bad(reason)


def token_entropy(model: Probed, images: Tensor, *, memory_limit: int | None = None) -> Score:
    """Entropy of the spectrum of the last tokens, in nats, averaged over the images; higher is better.

    Of each image the tokens before the output norm, centred, have singular values s; the entropy is that of
    s^2 / sum s^2. It is 0 where all tokens lie on a line or there is only one, and at most the log of their
    number minus 1. Arguments are those of :func:`naswot`, of which one image is enough.
    """
    tokens = _of_passes(model.last_tokens, model, images, memory_limit).double().flatten(1, -2)
    if not tokens.isfinite().all():
        return Score.bad('the tokens have NaN or infinite entries')
    power = torch.linalg.svdvals(tokens - tokens.mean(1, keepdim=True)).square()
    shares = power / power.sum(1, keepdim=True).clamp_min(torch.finfo(power.dtype).tiny)
    return Score(torch.special.entr(shares).sum(1).mean().item())


def _of_passes(
    function: Callable[[Tensor], Tensor], model: Probed, images: Tensor, memory_limit: int | None
) -> Tensor:
    """``function`` of as many images at a time as fit, without gradients, one after the other."""
    with eval_mode(model), torch.no_grad():
        return in_chunks(
            lambda chunk_size: torch.cat([function(part) for part in images.split(chunk_size)]),
            len(images),
            image_bytes=activation_bytes(
                forward_bytes, model, images.shape[2:], images.element_size()
            ),
            memory_limit=memory_limit,
        )


def _synaptic_gradients(model: Probed, img_size: ImageSize) -> dict[str, tuple[Tensor, Tensor]]:
    """|W| and dR/d|W|, float64, of every linear layer by the name of the weight."""
    if not has_norms(model):
        raise InputError(
            'without norms the gradients of positive weights are rounding errors: use a network with norms'
        )
    parameters = {name: value.detach().double().abs() for name, value in model.named_parameters()}
    first = next(model.parameters())
    ones = first.new_ones(1, model.in_channels, *as_pair(img_size), dtype=torch.float64)
    buffers = {name: b.double() for name, b in model.named_buffers() if b.is_floating_point()}
    gradients = _weight_gradients(model, parameters | buffers, ones)
    return {name: (parameters[name].detach(), g) for name, g in gradients.items()}


def _weight_gradients(
    model: Probed, parameters: Mapping[str, Tensor], images: Tensor, factor: float = 1.0
) -> dict[str, Tensor]:
    """Gradient of factor * sum(z) w.r.t. the weight of every linear layer that z depends on."""
    weights = {name: parameters[name].requires_grad_() for name, _ in _linear_layers(model)}
    with torch.enable_grad(), eval_mode(model):
        total = factor * pooled_tokens(model, parameters, images).sum()
    gradients = torch.autograd.grad(total, list(weights.values()), allow_unused=True)
    return {n: g for n, g in zip(weights, gradients, strict=True) if g is not None}


def _linear_layers(model: Probed) -> Iterator[tuple[str, nn.Module]]:
    """Name of the weight, and the module, of every linear layer."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            yield f'{name}.weight', module


def _in_attention(name: str) -> bool:
    return re.search(r'\battn\b|attention', name) is not None
