"""Patch merging on some images at a time, for training."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..linear import SMALLEST, linear, onednn_is_on, product
from ..plain import is_plain
from .parts import Sums, gradients, joined, rows_at_once


def merge(
    x: Tensor, norm: tuple[Tensor, Tensor], weight: Tensor, kernel: int, eps: float
) -> Tensor:
    """linear(LayerNorm(patches)): (B, H, W, C) to (B, h, w, out); differentiable any number of times.

    Args:
        x: padded tokens, which patches of ``kernel`` tokens at stride 2 tile.
        norm: weight and bias of the LayerNorm, (C * kernel * kernel,), channel-major.
        weight: of the linear layer, (out, C * kernel * kernel).
        kernel: tokens a side of a patch.
        eps: of the LayerNorm.
    """
    rows = x.shape[0] * ((x.shape[1] - kernel) // 2 + 1) * ((x.shape[2] - kernel) // 2 + 1)
    # The weights are laid out anew, which is worth it where patches outnumber them.
    pays = rows >= 2 * len(weight) and rows * weight.numel() >= SMALLEST
    fits = weight.shape[1:] == norm[0].shape == norm[1].shape == (kernel**2 * x.shape[-1],)
    if not (pays and fits and is_plain(x, *norm, weight) and onednn_is_on()):
        return merge_plainly(x, *norm, weight, kernel, eps)
    # Made contiguous here, where autograd sees it.
    out: Tensor = _ChunkedMerging.apply(x.contiguous(), *norm, weight, kernel, eps)
    return out


def merge_plainly(
    x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, kernel: int, eps: float
) -> Tensor:
    """The layers one after the other."""
    patches = x.unfold(1, kernel, 2).unfold(2, kernel, 2).flatten(3)  # (B, h, w, C * K * K)
    return linear(F.layer_norm(patches, scale.shape, scale, shift, eps), weight)


class _ChunkedMerging(torch.autograd.Function):
    """Patches are laid out token by token here, as tokens lie in memory; weights follow them."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, kernel: int, eps: float
    ) -> Tensor:
        ctx.save_for_backward(x, scale, shift, weight)
        ctx.kernel, ctx.eps = kernel, eps
        scaled, bias = _by_token(weight * scale, kernel), F.linear(shift, weight)
        outs = [
            product(_normalised(patches, eps)[0], scaled, bias).unflatten(0, patches.shape[:3])
            for _, patches in _patches(x, kernel)
        ]
        return joined(outs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        x, scale, shift, weight = saved
        kernel, eps, needs = ctx.kernel, ctx.eps, ctx.needs_input_grad
        if torch.is_grad_enabled() or not is_plain(grad, *saved):

            def merged(x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor) -> Tensor:
                return merge_plainly(x, scale, shift, weight, kernel, eps)

            return *gradients(merged, saved, needs, grad), None, None
        # What hooks have kept may have another layout.
        x, grad, scaled = x.contiguous(), grad.contiguous(), _by_token(weight * scale, kernel)
        of_x = torch.zeros_like(x) if needs[0] else None
        sums = Sums()
        for images, patches in _patches(x, kernel):
            normalised, mean, inverse = _normalised(patches, eps)
            of_out = grad[images].flatten(0, 2)
            if needs[1] or needs[3]:
                sums.add_weight(0, of_out, normalised)
            if of_x is not None:
                of_normalised = product(of_out, scaled.t())
                of_patches = torch.ops.aten.native_layer_norm_backward(
                    of_normalised,
                    patches.flatten(0, 2).flatten(1),
                    scale.shape,
                    mean,
                    inverse,
                    None,
                    None,
                    [True, False, False],
                )[0]
                _add_patches(of_x[images], of_patches.view_as(patches))
        # Of the product of weight and scale, which the patches see, and of the bias that shift makes.
        of_bias = grad.flatten(0, 2).sum(0)
        of_scaled = _by_channel(sums[0], kernel) if 0 in sums else None
        return (
            of_x,
            (of_scaled * weight).sum(0) if of_scaled is not None and needs[1] else None,
            of_bias @ weight if needs[2] else None,
            of_scaled * scale + of_bias[:, None] * shift
            if of_scaled is not None and needs[3]
            else None,
            None,
            None,
        )


def _patches(x: Tensor, kernel: int) -> Iterator[tuple[slice, Tensor]]:
    """Images of a chunk and their patches (images, h, w, kernel, kernel * C), of tokens (B, H, W, C)."""
    batch, height, width, channels = x.shape
    rows, columns = (height - kernel) // 2 + 1, (width - kernel) // 2 + 1
    count = max(1, round(rows_at_once(kernel * kernel * channels) / (rows * columns)))
    for start in range(0, batch, count):
        images = slice(start, min(start + count, batch))
        part = x[images]
        line = width * channels
        # A patch's row of tokens is one stretch of memory.
        size = (len(part), rows, columns, kernel, kernel * channels)
        strides = (height * line, 2 * line, 2 * channels, line, 1)
        yield images, part.as_strided(size, strides, part.storage_offset()).contiguous()


def _add_patches(x: Tensor, patches: Tensor) -> None:
    """Add patches (images, h, w, kernel, kernel * C) to the tokens (images, H, W, C) that they are of."""
    rows, columns, kernel = patches.shape[1:4]
    tokens = patches.unflatten(-1, (kernel, -1))
    for i in range(kernel):
        for j in range(kernel):
            x[:, i : i + 2 * rows - 1 : 2, j : j + 2 * columns - 1 : 2] += tokens[:, :, :, i, j]


def _normalised(patches: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Each patch less its mean over its deviation, (N, K * K * C); its mean and inverse deviation, (N, 1)."""
    rows = patches.flatten(0, 2).flatten(1)
    return torch.native_layer_norm(rows, rows.shape[1:], None, None, eps)


def _by_token(weight: Tensor, kernel: int) -> Tensor:
    """Weights (out, C * K * K) in the order of :func:`_patches`, (out, K * K * C)."""
    return weight.unflatten(1, (-1, kernel * kernel)).transpose(1, 2).flatten(1)


def _by_channel(weight: Tensor, kernel: int) -> Tensor:
    """The inverse of :func:`_by_token`."""
    return weight.unflatten(1, (kernel * kernel, -1)).transpose(1, 2).flatten(1)
