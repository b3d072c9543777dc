"""Patch merging and feed-forward layers on some tokens at a time, so that what lies between stays in caches.

On a CPU what a training step spends beside its matrix products goes to memory: patches of kernel 4 are four
times the tokens that they are cut from, a hidden layer E times, and each is asked from the system, written
and read again by every operation between two products. In chunks neither patches nor what leaves the
activation are ever there as a whole: for the backward pass merging keeps its tokens and cuts them again, a
feed-forward layer keeps what goes into its activation. Values differ from those of the layers one after the
other by rounding only. Figures: docs/performance.md.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .gelu import gelu, gelu_backward_
from .linear import SMALLEST, linear, onednn_is_on, onednn_takes, product, weight_gradient
from .plain import is_plain

# Numbers of what is widest in a chunk, and rows of it, at least, for a matrix product at full speed.
SIZE, ROWS = 1 << 19, 512


def feed_forward(x: Tensor, fc1: tuple[Tensor, Tensor], fc2: tuple[Tensor, Tensor]) -> Tensor:
    """fc2(GELU(fc1 x)): (..., C) to (..., C); differentiable any number of times.

    Args:
        x: tokens.
        fc1: weight (hidden, C) and bias (hidden,).
        fc2: weight (C, hidden) and bias (C,).
    """
    fits = fc2[0].shape == (len(fc2[1]), len(fc1[0]))
    if not (fits and onednn_takes(x, *fc1) and is_plain(*fc2)):
        return _feed_forward(x, *fc1, *fc2)
    if torch.is_grad_enabled() and any(one.requires_grad for one in (x, *fc1, *fc2)):
        out: Tensor = _ChunkedFeedForward.apply(x, *fc1, *fc2)
        return out
    parts = [
        product(product(part, *fc1, gelu=True), *fc2)
        for part in chunks(x.flatten(0, -2), len(fc1[0]))
    ]
    return _joined(parts).view(*x.shape[:-1], -1)


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


def _feed_forward(
    x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor
) -> Tensor:
    """The layers one after the other."""
    return linear(F.gelu(linear(x, weight1, bias1)), weight2, bias2)


def merge_plainly(
    x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, kernel: int, eps: float
) -> Tensor:
    """The layers one after the other."""
    patches = x.unfold(1, kernel, 2).unfold(2, kernel, 2).flatten(3)  # (B, h, w, C * K * K)
    return linear(F.layer_norm(patches, scale.shape, scale, shift, eps), weight)


class _ChunkedFeedForward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor
    ) -> Tensor:
        hidden, outs = [], []
        for part in chunks(x.flatten(0, -2), len(weight1)):
            before = product(part, weight1, bias1)
            outs.append(product(gelu(before), weight2, bias2))
            if any(ctx.needs_input_grad[:4]):
                hidden.append(before)
        ctx.save_for_backward(x, weight1, bias1, weight2, bias2, *hidden)
        return _joined(outs).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        x, weight1, bias1, weight2, bias2, *hidden = saved
        needs = ctx.needs_input_grad
        # Only a gradient that is to be differentiated itself is computed with gradients enabled; hooks may
        # have kept what is saved in another type or place.
        if torch.is_grad_enabled() or not is_plain(grad, *saved):
            return _gradients(_feed_forward, (x, weight1, bias1, weight2, bias2), needs, grad)
        rows, of_x, sums = grad.flatten(0, -2), [], _Sums()
        parts = zip(chunks(x.flatten(0, -2), len(weight1)), chunks(rows, len(weight1)), strict=True)
        # Of the bias of fc2 alone nothing is kept.
        for (part, of_out), before in zip(parts, hidden, strict=bool(hidden)):
            before = before.contiguous()  # which hooks may have changed as well
            if not any(needs[:3]):
                sums.add(3, weight_gradient(of_out, gelu(before)))
                continue
            of_hidden = product(of_out, weight2.t())
            if needs[3]:
                sums.add(3, weight_gradient(of_out, gelu_backward_(before, of_hidden)))
            else:
                torch.ops.aten.gelu_backward.grad_input(of_hidden, before, grad_input=of_hidden)
            if needs[1]:
                sums.add(1, weight_gradient(of_hidden, part))
            if needs[2]:
                sums.add(2, of_hidden.sum(0))
            if needs[0]:
                of_x.append(product(of_hidden, weight1.t()))
        if needs[4]:
            sums.add(4, rows.sum(0))
        return _joined(of_x).view_as(x) if needs[0] else None, *map(sums.get, range(1, 5))


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
        return _joined(outs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        x, scale, shift, weight = saved
        kernel, eps, needs = ctx.kernel, ctx.eps, ctx.needs_input_grad
        if torch.is_grad_enabled() or not is_plain(grad, *saved):

            def merged(x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor) -> Tensor:
                return merge_plainly(x, scale, shift, weight, kernel, eps)

            return *_gradients(merged, saved, needs, grad), None, None
        # What hooks have kept may have another layout.
        x, grad, scaled = x.contiguous(), grad.contiguous(), _by_token(weight * scale, kernel)
        of_x = torch.zeros_like(x) if needs[0] else None
        sums = _Sums()
        for images, patches in _patches(x, kernel):
            normalised, mean, inverse = _normalised(patches, eps)
            of_out = grad[images].flatten(0, 2)
            if needs[1] or needs[3]:
                sums.add(0, weight_gradient(of_out, normalised))
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


class _Sums(dict[int, Tensor]):
    """Sums by name of what the chunks give."""

    def add(self, name: int, value: Tensor) -> None:
        if name in self:
            self[name] += value
        else:
            self[name] = value


def chunks(rows: Tensor, width: int) -> Sequence[Tensor]:
    """Rows (N, C) in contiguous views of about equally many, for layers of which one is ``width`` wide."""
    count = max(1, round(len(rows) / _rows(width)))
    return rows.contiguous().split(-(-len(rows) // count))


def _rows(width: int) -> int:
    return max(ROWS, SIZE // width)


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _patches(x: Tensor, kernel: int) -> Iterator[tuple[slice, Tensor]]:
    """Images of a chunk and their patches (images, h, w, kernel, kernel * C), of tokens (B, H, W, C)."""
    batch, height, width, channels = x.shape
    rows, columns = (height - kernel) // 2 + 1, (width - kernel) // 2 + 1
    count = max(1, round(_rows(kernel * kernel * channels) / (rows * columns)))
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


def _gradients(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], needs: Sequence[bool], grad: Tensor
) -> tuple[Tensor | None, ...]:
    """Gradients of a function of plain operations, which can be differentiated and batched."""
    with torch.enable_grad():
        # Nodes of their own, so that no path leads from one input to another and no hook is called here.
        own = [one.view_as(one) for one in inputs]
        out = function(*own)
    wanted = [one for one, needed in zip(own, needs, strict=False) if needed]
    found = iter(torch.autograd.grad(out, wanted, grad, create_graph=torch.is_grad_enabled()))
    return tuple(next(found) if needed else None for needed in needs[: len(inputs)])
