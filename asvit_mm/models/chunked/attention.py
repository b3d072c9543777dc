"""Attention with the norm before it and its two linear layers, on some windows at a time."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...ops.attention import attend, attention_backward, attention_forward, mask_fits, takes_native
from ..linear import linear, onednn_takes, product
from ..norms import Norm
from ..plain import is_plain
from .parts import (
    Sums,
    all_plain,
    gradients,
    joined,
    norm_fits,
    norm_plainly,
    normed,
    rows_at_once,
    wants_gradient,
)

# Heads in a chunk, at least, for as many threads: in its backward pass each is one thread's.
HEADS_AT_ONCE = 16


class Heads(NamedTuple):
    """What attention has beside its tensors."""

    number: int
    scale: float  # of the scores
    eps: float  # of the norm before it

    def split(self, rows: Tensor, tokens: int) -> Tensor:
        """Rows (N, 3 * heads * dim) to windows (N / tokens, tokens, 3, heads, dim)."""
        return rows.view(-1, tokens, 3, self.number, rows.shape[-1] // (3 * self.number))


def attention(
    x: Tensor,
    norm: Norm,
    qkv: tuple[Tensor, Tensor],
    proj: tuple[Tensor, Tensor],
    heads: Heads,
    mask: Tensor | None = None,
) -> Tensor:
    """proj(attention(qkv(norm(x)))) of what :func:`takes_attention`; differentiable any number of times.

    Args:
        x: tokens of windows, (B, windows, N, C).
        norm: weight and bias of a LayerNorm, (C,), or two None.
        qkv: weight (3 * heads * dim, C) and bias of the layer that makes queries, keys and values.
        proj: weight (C, heads * dim) and bias (C,) of the one from all heads.
        heads: their number, the scores' scale and the norm's eps.
        mask: (B * windows, 1, 1, N), true where a token may be attended to; None: everywhere.

    Returns:
        (B, windows, N, C).
    """
    out: Tensor = _ChunkedAttention.apply(x, *norm, *qkv, *proj, heads, mask)
    return out


def takes_attention(
    x: Tensor,
    norm: Norm,
    qkv: tuple[Tensor, Tensor],
    proj: tuple[Tensor, Tensor],
    heads: Heads,
    mask: Tensor | None = None,
) -> bool:
    """Whether :func:`attention` is for these: plain tensors that fit, enough of them, and a gradient wanted.

    Without a gradient the layers one after the other are as fast.
    """
    return (
        takes_native(x)
        and wants_gradient(x, *norm, *qkv, *proj)
        and x.ndim == 4
        and onednn_takes(x, *qkv)
        and is_plain(*proj)
        and proj[0].shape[1:] == (len(qkv[0]) / 3,)
        and proj[0].shape[1] % heads.number == 0
        and proj[1].shape == proj[0].shape[:1]
        and norm_fits(norm, x)
        and mask_fits(mask, x.shape[0] * x.shape[1], x.shape[2], x.device)
    )


def attention_plainly(
    tensors: tuple[Tensor, ...], heads: Heads, mask: Tensor | None = None
) -> Tensor:
    """The layers of :func:`attention`, ``tensors`` being all of its, one after the other."""
    x, scale, shift, weight1, bias1, weight2, bias2 = tensors
    rows = linear(norm_plainly(x, scale, shift, heads.eps), weight1, bias1).flatten(0, 2)
    out = attend(heads.split(rows, x.shape[2]), heads.scale, mask)
    return linear(out.flatten(2), weight2, bias2).view(*x.shape[:-1], -1)


class _ChunkedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor | None,
        shift: Tensor | None,
        weight1: Tensor,
        bias1: Tensor,
        weight2: Tensor,
        bias2: Tensor,
        heads: Heads,
        mask: Tensor | None,
    ) -> Tensor:
        kept, outs = [], []
        for windows, part in _windows(x, len(weight1), heads):
            rows = product(normed(part, scale, shift, heads.eps)[0], weight1, bias1)
            qkv = heads.split(rows, x.shape[2])
            out, log_sums = attention_forward(qkv, heads.scale, _of(mask, windows))
            outs.append(product(out.flatten(2).flatten(0, 1), weight2, bias2))
            if any(ctx.needs_input_grad[:6]):
                kept += [out, log_sums]
        ctx.save_for_backward(x, scale, shift, weight1, bias1, weight2, bias2, mask, *kept)
        ctx.heads = heads
        return joined(outs).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        x, scale, shift, weight1, bias1, weight2, _, mask, *kept = saved
        heads, needs = ctx.heads, ctx.needs_input_grad
        # Only a gradient that is to be differentiated itself is computed with gradients enabled; hooks may
        # have kept what is saved in another type or place.
        fits = mask_fits(mask, x.shape[0] * x.shape[1], x.shape[2], x.device)
        if torch.is_grad_enabled() or not (fits and all_plain(grad, *saved[:7], *kept)):

            def attended(*inputs: Any) -> Tensor:
                return attention_plainly(inputs, heads, None if mask is None else mask.bool())

            return *gradients(attended, saved[:7], needs, grad), None, None
        of_x: list[Any] = []
        grads, sums = grad.contiguous().flatten(0, 1), Sums()
        for i, (windows, part) in enumerate(_windows(x, len(weight1), heads)):
            of_out = grads[windows].flatten(0, 1)
            if needs[6]:
                sums.add(6, of_out.sum(0))
            if not kept:  # the gradient of the last bias alone is wanted
                continue
            out, log_sums = (one.contiguous() for one in kept[2 * i : 2 * i + 2])
            if needs[5]:
                sums.add_weight(5, of_out, out.flatten(2).flatten(0, 1))
            if not any(needs[:5]):
                continue
            of_heads = product(of_out, weight2.t()).view_as(out)
            norm = normed(part, scale, shift, heads.eps)
            qkv = heads.split(product(norm[0], weight1, bias1), x.shape[2])
            of_qkv = attention_backward(
                qkv, out, log_sums, of_heads, heads.scale, _of(mask, windows)
            )
            of_rows = of_qkv.view(len(of_out), -1)
            of_x.append(sums.add_first(of_rows, part, norm, (scale, shift), weight1, needs))
        return (
            joined(of_x).view_as(x) if needs[0] else None,
            *map(sums.get, range(1, 7)),
            None,
            None,
        )


def _windows(x: Tensor, width: int, heads: Heads) -> Iterator[tuple[slice, Tensor]]:
    """Windows of a chunk, of (B, windows, N, C), and their rows, for a layer of ``width`` outputs."""
    windows = x.contiguous().flatten(0, 1)
    most = max(rows_at_once(width) / x.shape[2], HEADS_AT_ONCE / heads.number)
    count = max(1, round(len(windows) / most))
    size = -(-len(windows) // count)
    for start in range(0, len(windows), size):
        taken = slice(start, min(start + size, len(windows)))
        yield taken, windows[taken].flatten(0, 1)


def _of(mask: Tensor | None, windows: slice) -> Tensor | None:
    return None if mask is None else mask[windows]
