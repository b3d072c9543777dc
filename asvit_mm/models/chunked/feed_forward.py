"""Feed-forward layers with the norm before them, on some tokens at a time."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..gelu import gelu, gelu_backward_
from ..linear import linear, onednn_takes, product
from ..norms import Norm
from ..plain import is_plain
from .parts import (
    Sums,
    all_plain,
    chunks,
    gradients,
    joined,
    norm_fits,
    norm_plainly,
    normed,
    wants_gradient,
)


def feed_forward(
    x: Tensor, norm: Norm, fc1: tuple[Tensor, Tensor], fc2: tuple[Tensor, Tensor], eps: float
) -> Tensor:
    """fc2(GELU(fc1(norm(x)))) of what :func:`takes_feed_forward`; differentiable any number of times.

    Args:
        x: tokens, (..., C).
        norm: weight and bias of a LayerNorm, (C,), or two None.
        fc1: weight (hidden, C) and bias (hidden,).
        fc2: weight (C, hidden) and bias (C,).
        eps: of the LayerNorm.

    Returns:
        (..., C).
    """
    if wants_gradient(x, *norm, *fc1, *fc2):
        out: Tensor = _ChunkedFeedForward.apply(x, *norm, *fc1, *fc2, eps)
        return out
    parts = [
        product(product(normed(part, *norm, eps)[0], *fc1, gelu=True), *fc2)
        for part in chunks(x.flatten(0, -2), len(fc1[0]))
    ]
    return joined(parts).view(*x.shape[:-1], -1)


def takes_feed_forward(
    x: Tensor, norm: Norm, fc1: tuple[Tensor, Tensor], fc2: tuple[Tensor, Tensor]
) -> bool:
    """Whether :func:`feed_forward` is for these: plain tensors that fit, and enough of them."""
    return (
        onednn_takes(x, *fc1)
        and is_plain(*fc2)
        and fc2[0].shape[1:] == fc1[0].shape[:1]
        and fc2[1].shape == fc2[0].shape[:1]
        and norm_fits(norm, x)
    )


def feed_forward_plainly(tensors: tuple[Tensor, ...], eps: float) -> Tensor:
    """The layers of :func:`feed_forward`, ``tensors`` being all of its, one after the other."""
    x, scale, shift, weight1, bias1, weight2, bias2 = tensors
    return linear(
        F.gelu(linear(norm_plainly(x, scale, shift, eps), weight1, bias1)), weight2, bias2
    )


class _ChunkedFeedForward(torch.autograd.Function):
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
        eps: float,
    ) -> Tensor:
        hidden, outs = [], []
        for part in chunks(x.flatten(0, -2), len(weight1)):
            before = product(normed(part, scale, shift, eps)[0], weight1, bias1)
            outs.append(product(gelu(before), weight2, bias2))
            if any(ctx.needs_input_grad[:6]):
                hidden.append(before)
        ctx.save_for_backward(x, scale, shift, weight1, bias1, weight2, bias2, *hidden)
        ctx.eps = eps
        return joined(outs).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        x, scale, shift, weight1, _, weight2, _, *hidden = saved
        eps, needs = ctx.eps, ctx.needs_input_grad
        if torch.is_grad_enabled() or not all_plain(grad, *saved):

            def fed(*inputs: Any) -> Tensor:
                return feed_forward_plainly(inputs, eps)

            return *gradients(fed, saved[:7], needs, grad), None
        of_x: list[Any] = []
        rows, sums = grad.flatten(0, -2), Sums()
        parts = zip(chunks(x.flatten(0, -2), len(weight1)), chunks(rows, len(weight1)), strict=True)
        # Of the bias of fc2 alone nothing is kept.
        for (part, of_out), before in zip(parts, hidden, strict=bool(hidden)):
            before = before.contiguous()  # which hooks may have changed as well
            if not any(needs[:5]):
                sums.add_weight(5, of_out, gelu(before))
                continue
            of_hidden = product(of_out, weight2.t())
            if needs[5]:
                sums.add_weight(5, of_out, gelu_backward_(before, of_hidden))
            else:
                torch.ops.aten.gelu_backward.grad_input(of_hidden, before, grad_input=of_hidden)
            norm = normed(part, scale, shift, eps)
            of_x.append(sums.add_first(of_hidden, part, norm, (scale, shift), weight1, needs))
        if needs[6]:
            sums.add(6, rows.sum(0))
        return joined(of_x).view_as(x) if needs[0] else None, *map(sums.get, range(1, 7)), None
