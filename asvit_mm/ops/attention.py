"""Softmax attention as one operator of torch, ``asvit_mm::attention``, with a CPU kernel of its own.

The operator has a CPU implementation (attention.cpp, FlashAttention's algorithm, arXiv 2205.14135), shapes
for fake tensors, a derivative and a FLOP formula, so ``torch.compile`` keeps it in its graph, and profilers
and FLOP counters see it. Under ``torch.func`` transforms it decomposes into torch's
``scaled_dot_product_attention``, which :func:`attend` also calls wherever the kernel cannot be used. Both
give the same values up to rounding. How much faster the kernel is: docs/performance.md.
"""

import ctypes
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula

from .native import library

SOURCE = Path(__file__).with_name('attention.cpp')


def attend(qkv: Tensor, scale: float, mask: Tensor | None = None, dropout: float = 0.0) -> Tensor:
    """softmax(scale q k^T) v of every head.

    Args:
        qkv: queries, keys and values, (B, N, 3, heads, dim).
        scale: of the scores q k^T.
        mask: (B, 1, 1, N), True for keys that may be attended to, at least one per batch entry; None: all.
        dropout: share of the attention weights set to zero; torch's attention does that, not the kernel.

    Returns:
        (B, N, heads, dim).
    """
    if torch.jit.is_scripting():
        return decomposed_attention(qkv, scale, mask, dropout)
    else:  # not compiled by TorchScript
        if dropout == 0 and uses_kernel(qkv):
            out: Tensor = torch.ops.asvit_mm.attention(qkv, scale, mask)[0]
            return out
        return decomposed_attention(qkv, scale, mask, dropout)


def decomposed_attention(
    qkv: Tensor, scale: float, mask: Tensor | None = None, dropout: float = 0.0
) -> Tensor:
    """What :func:`attend` computes, by torch's ``scaled_dot_product_attention``."""
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, N, dim)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=scale)
    return out.transpose(1, 2)


def uses_kernel(qkv: Tensor) -> bool:
    """Whether :func:`attend` runs the operator: float32 on a CPU where the kernel is compiled.

    Not for tensors with a forward-mode tangent, not under autocast, and not in traces and exports, which must
    run without this package.
    """
    if qkv.device.type != 'cpu' or qkv.dtype != torch.float32:
        return False
    if torch.jit.is_tracing() or torch.is_autocast_enabled('cpu'):
        return False
    if torch.compiler.is_compiling():
        # True in torch.export as well, which traces without Dynamo.
        return torch.compiler.is_dynamo_compiling() and has_kernel()
    return forward_ad.unpack_dual(qkv).tangent is None and has_kernel()


@torch.compiler.assume_constant_result
def has_kernel() -> bool:
    """Whether the CPU kernel is available: there is a compiler, or it was compiled before."""
    return library(SOURCE) is not None


# -- the operator ----------------------------------------------------------------------------------------


@torch.library.custom_op(
    'asvit_mm::attention',
    mutates_args=(),
    device_types='cpu',
    schema='(Tensor qkv, float scale, Tensor? mask=None) -> (Tensor, Tensor)',
)
def attention(qkv: Tensor, scale: float, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The output of :func:`attend`, and log2 of each softmax's denominator, (B, heads, N), for backward."""
    if not _fits_kernel(qkv, mask):
        return explicit_attention(qkv, scale, mask)
    out, log_sums = _empty_outputs(qkv, scale)
    _run('attention_forward', (qkv, mask, out, log_sums), qkv.shape, scale)
    return out, log_sums


@torch.library.custom_op(
    'asvit_mm::attention_backward',
    mutates_args=(),
    device_types='cpu',
    schema='(Tensor grad, Tensor qkv, Tensor out, Tensor log_sums, float scale, Tensor? mask) -> Tensor',
)
def attention_backward(
    grad: Tensor, qkv: Tensor, out: Tensor, log_sums: Tensor, scale: float, mask: Tensor | None
) -> Tensor:
    """Gradient w.r.t. ``qkv``, from the gradient w.r.t. the output, ``grad`` (B, N, heads, dim)."""
    if not _fits_kernel(qkv, mask):
        return explicit_gradient(grad, qkv, scale, mask)
    grad_qkv = torch.empty_like(qkv, memory_format=torch.contiguous_format)
    arrays = (qkv, mask, out, log_sums, grad, grad_qkv)
    _run('attention_backward', arrays, qkv.shape, scale)
    return grad_qkv


def explicit_attention(
    qkv: Tensor, scale: float, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What the operator computes, in torch's operations: its definition, and its fallback."""
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    scores = _scores(q, k, scale, mask)
    out = scores.softmax(-1) @ v
    return out.transpose(1, 2).contiguous(), scores.logsumexp(-1) / math.log(2)


def explicit_gradient(
    grad: Tensor, qkv: Tensor, scale: float, mask: Tensor | None = None
) -> Tensor:
    """What ``attention_backward`` computes, in differentiable operations, for second derivatives."""
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    weights = _scores(q, k, scale, mask).softmax(-1)
    grad_out = grad.transpose(1, 2)
    grad_weights = grad_out @ v.mT
    grad_scores = weights * (grad_weights - (weights * grad_weights).sum(-1, keepdim=True))
    grads = (scale * grad_scores @ k, scale * grad_scores.mT @ q, weights.mT @ grad_out)
    return torch.stack(grads).permute(1, 3, 0, 2, 4)  # (3, B, heads, N, dim) as qkv is


def _scores(q: Tensor, k: Tensor, scale: float, mask: Tensor | None) -> Tensor:
    scores = scale * q @ k.mT
    return scores if mask is None else scores.masked_fill(mask.logical_not(), -math.inf)


def _fits_kernel(qkv: Tensor, mask: Tensor | None) -> bool:
    """Whether the kernel can run; a ValueError for input that its raw pointers would misread."""
    if qkv.ndim != 5 or qkv.shape[2] != 3:
        raise ValueError(f'qkv of shape {tuple(qkv.shape)} is not (B, N, 3, heads, dim)')
    expected = (qkv.shape[0], 1, 1, qkv.shape[1])
    if mask is not None and (mask.dtype != torch.bool or mask.shape != expected):
        raise ValueError(
            f'mask of {mask.dtype} and shape {tuple(mask.shape)} is not one of bool and shape {expected}'
        )
    return qkv.dtype == torch.float32 and has_kernel()


def _run(name: str, arrays: tuple[Tensor | None, ...], shape: torch.Size, scale: float) -> None:
    """Call a function of the kernel; its outputs are the last of ``arrays`` and must be contiguous."""
    batch, tokens, _, heads, dim = shape
    function = getattr(library(SOURCE), name)
    function.restype = ctypes.c_bool
    arrays = tuple(array if array is None else array.contiguous() for array in arrays)
    pointers = (ctypes.c_void_p(array if array is None else array.data_ptr()) for array in arrays)
    sizes = map(ctypes.c_int64, (batch, tokens, heads, dim))
    if not function(*pointers, *sizes, ctypes.c_float(scale), torch.get_num_threads()):
        raise MemoryError(f'attention over {tokens} tokens of width {dim} has no memory to work in')


# -- its registrations with torch ------------------------------------------------------------------------


@attention.register_fake
def _empty_outputs(qkv: Tensor, scale: float, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    batch, tokens, _, heads, dim = qkv.shape
    return qkv.new_empty(batch, tokens, heads, dim), qkv.new_empty(batch, heads, tokens)


@attention_backward.register_fake
def _empty_gradient(
    grad: Tensor, qkv: Tensor, out: Tensor, log_sums: Tensor, scale: float, mask: Tensor | None
) -> Tensor:
    return torch.empty_like(qkv, memory_format=torch.contiguous_format)


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    qkv, ctx.scale, mask = inputs
    ctx.save_for_backward(qkv, *output, mask)


def _backward(ctx: Any, grad: Tensor, grad_log_sums: Tensor) -> tuple[Tensor | None, ...]:
    qkv, out, log_sums, mask = ctx.saved_tensors
    # Gradients are enabled here only if this gradient is itself to be differentiated (create_graph=True).
    if torch.is_grad_enabled():
        return explicit_gradient(grad, qkv, ctx.scale, mask), None, None
    return attention_backward(grad, qkv, out, log_sums, ctx.scale, mask), None, None


attention.register_autograd(_backward, setup_context=_save_for_backward)


# No transform of torch.func (jvp, vjp, vmap and their compositions) looks into a custom operator. This
# dispatch key comes before all of them, so they see the decomposition instead.
_FRAGMENT = torch.library.Library('asvit_mm', 'FRAGMENT')


def _transformed(qkv: Tensor, scale: float, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    # The second output serves the operator's own derivative only, which is not used here.
    return decomposed_attention(qkv, scale, mask), qkv.new_empty(0)


_FRAGMENT.impl('attention', _transformed, 'FuncTorchDynamicLayerFrontMode')


def traced_macs(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    """Multiply-adds of ``scaled_dot_product_attention`` in a trace, for counters that read traces.

    MMEngine's and fvcore's leave it out. Both have ``set_op_handle``, for which this is a handle:
    ``FlopAnalyzer(model, x).set_op_handle('aten::scaled_dot_product_attention', traced_macs)``.

    Args:
        inputs, outputs: values of the traced graph; queries, keys and values (..., N, dim) come first.
    """
    queries, keys, values = (value.type().sizes() for value in inputs[:3])
    return int(math.prod(queries[:-1]) * keys[-2] * (keys[-1] + values[-1]))


@register_flop_formula(torch.ops.asvit_mm.attention)
def _flops(qkv_shape: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    """Two products, q k^T and weights v: 2 FLOPs per multiply-add, as torch counts."""
    batch, tokens, _, heads, dim = qkv_shape
    return 2 * 2 * batch * heads * tokens * tokens * dim


@register_flop_formula(torch.ops.asvit_mm.attention_backward)
def _backward_flops(grad_shape: Any, qkv_shape: Any, *args: Any, **kwargs: Any) -> int:
    """Five products: the scores again, and the gradients w.r.t. weights, values, queries and keys."""
    batch, tokens, _, heads, dim = qkv_shape
    return 5 * 2 * batch * heads * tokens * tokens * dim
