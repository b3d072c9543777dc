"""Softmax attention of heads, through the fastest kernel at hand.

On a CPU in float32 that is this package's own (attention.cpp), forward and backward; elsewhere, and wherever
somebody looks (:func:`~asvit_mm.models.plain.is_plain`), torch's ``scaled_dot_product_attention``. Values
differ by rounding only. Figures: docs/performance.md.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..models.plain import is_plain
from .native import call, library

SOURCE = Path(__file__).with_name('attention.cpp')


def attend(qkv: Tensor, scale: float, mask: Tensor | None = None) -> Tensor:
    """softmax(scale q k') v of every head; differentiable any number of times.

    Args:
        qkv: queries, keys and values, (B, N, 3, heads, dim).
        scale: of the scores.
        mask: (B, 1, 1, N), true where a token may be attended to, one of each row at least; None:
            everywhere. Through this package's kernel other tokens leave no trace, infinite or not numbers as
            they may be.

    Returns:
        (B, N, heads, dim).
    """
    if takes_native(qkv) and _fits(qkv, mask):
        if torch.is_grad_enabled() and qkv.requires_grad:
            # Made contiguous here, where autograd sees it.
            out: Tensor = _NativeAttention.apply(qkv.contiguous(), scale, mask)
            return out
        return attention_forward(qkv.contiguous(), scale, mask)[0]
    # (B, N, 3, heads, dim) to three of (B, heads, N, dim), none of them copied; in this order the backward
    # pass joins the three gradients by copying whole rows of heads.
    q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    return out.transpose(1, 2)


def takes_native(x: Tensor) -> bool:
    """Whether attention of what is made from ``x`` runs through this package's kernel.

    Not where the user has excluded fused kernels by ``torch.nn.attention.sdpa_kernel``.
    """
    return is_plain(x) and torch.backends.cuda.flash_sdp_enabled() and has_kernel()


def has_kernel() -> bool:
    """Whether this package's kernel is at hand: there is a compiler, or it was compiled before."""
    return library(SOURCE) is not None


def fused_dim(head_dim: int) -> int:
    """Width at which torch's attention over heads of ``head_dim`` is computed.

    Fused kernels like multiples of 8: zeros beyond the head change neither scores nor outputs and
    are cheaper than an odd width. The explicit form takes any width.
    """
    # What is compiled runs fused; the compiler does not follow the question that comes second.
    fused = torch.compiler.is_compiling() or torch.backends.cuda.flash_sdp_enabled()
    return -(-head_dim // 8) * 8 if fused else head_dim


def _fits(qkv: Tensor, mask: Tensor | None) -> bool:
    """Whether shapes are those that the kernel, which sees none, takes for granted."""
    return (
        qkv.ndim == 5 and qkv.shape[2] == 3 and mask_fits(mask, len(qkv), qkv.shape[1], qkv.device)
    )


def mask_fits(mask: Tensor | None, windows: int, tokens: int, device: torch.device) -> bool:
    """Whether it is none or as :func:`attend` wants it."""
    return mask is None or (
        type(mask) is Tensor
        and mask.dtype == torch.bool
        and mask.device == device
        and mask.shape == (windows, 1, 1, tokens)
    )


class _NativeAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, scale: float, mask: Tensor | None) -> Tensor:
        out, log_sums = attention_forward(qkv, scale, mask)
        ctx.save_for_backward(qkv, out, log_sums, mask)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        qkv, out, log_sums, mask = ctx.saved_tensors
        # Only a gradient that is to be differentiated itself is computed with gradients enabled.
        fits = is_plain(qkv, out, log_sums, grad) and _fits(qkv, mask)
        if torch.is_grad_enabled() or not fits:
            return gradient(qkv, ctx.scale, mask, grad), None, None
        # What hooks have kept may have another layout.
        qkv, out, log_sums, grad = (t.contiguous() for t in (qkv, out, log_sums, grad))
        return attention_backward(qkv, out, log_sums, grad, ctx.scale, mask), None, None


def gradient(qkv: Tensor, scale: float, mask: Tensor | None, grad: Tensor) -> Tensor:
    """Gradient of :func:`attend` by ``qkv``, in plain operations; ``grad``: (B, N, heads, dim)."""
    q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
    scores = scale * q @ k.mT
    if mask is not None:
        scores = scores.masked_fill(mask.logical_not(), -torch.inf)
    weights, of_out = scores.softmax(-1), grad.transpose(1, 2)
    of_weights = of_out @ v.mT
    of_scores = weights * (of_weights - (weights * of_weights).sum(-1, keepdim=True))
    parts = (scale * of_scores @ k, scale * of_scores.mT @ q, weights.mT @ of_out)
    return torch.stack([part.transpose(1, 2) for part in parts], 2)


def attention_forward(qkv: Tensor, scale: float, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """What :func:`attend` computes, by this package's kernel, without a gradient; ``qkv`` is contiguous.

    Returns:
        (B, N, heads, dim), and the logarithms to base 2 of the softmax's denominators, (B, heads, N).
    """
    batch, tokens, _, heads, dim = qkv.shape
    out, log_sums = qkv.new_empty(batch, tokens, heads, dim), qkv.new_empty(batch, heads, tokens)
    _call('attention_forward', (qkv, _seen(mask), out, log_sums), qkv.shape, scale)
    return out, log_sums


def attention_backward(
    qkv: Tensor, out: Tensor, log_sums: Tensor, grad: Tensor, scale: float, mask: Tensor | None
) -> Tensor:
    """Gradient by ``qkv`` of what :func:`attention_forward` gave; ``grad``: (B, N, heads, dim)."""
    of_qkv = torch.empty_like(qkv)
    _call('attention_backward', (qkv, _seen(mask), out, log_sums, grad, of_qkv), qkv.shape, scale)
    return of_qkv


def _seen(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else mask.contiguous()


def _call(name: str, arrays: tuple[Tensor | None, ...], shape: torch.Size, scale: float) -> None:
    batch, tokens, _, heads, dim = shape
    if not call(SOURCE, name, *arrays, batch, tokens, heads, dim, float(scale)):
        raise MemoryError(f'attention over {tokens} tokens of {dim} numbers: no memory to work in')
