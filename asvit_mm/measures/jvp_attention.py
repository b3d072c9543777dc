"""Jacobian-vector product of attention in forward mode, in chunks that fit into the cache.

No fused attention kernel supports forward-mode differentiation, and the explicit form writes every matrix
of scores to memory several times. Here a few heads are processed at a time, so that their scores are still
in the cache when they are read.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from ..tokens import ImageSize
from .memory import window_tokens

# Of scaled_dot_product_attention.
_ARGUMENTS = ('query', 'key', 'value', 'attn_mask', 'dropout_p', 'is_causal', 'scale', 'enable_gqa')
# Bytes of the scores of a chunk: what fits into the second-level caches of two cores, and on a GPU enough
# heads to fill the device.
CHUNK_BYTES = {'cpu': 5 << 20, 'cuda': 1 << 30}


def scores_bytes(model: Any, img_size: ImageSize, parameter: Tensor) -> int:
    """Bytes of the two score buffers that :func:`jvp_attention` allocates, for the largest windows.

    Args:
        parameter: gives the device and the dtype of the network.
    """
    arch = getattr(model, 'architecture', None)
    if arch is None:
        return 0
    tokens = window_tokens(arch, img_size)
    return 2 * max(CHUNK_BYTES[parameter.device.type], tokens * tokens * parameter.itemsize)


class DualAttention(TorchFunctionMode):
    """Inside, ``scaled_dot_product_attention`` takes dual tensors (torch.autograd.forward_ad)."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        given = dict(zip(_ARGUMENTS, args, strict=False)) | kwargs
        q, k, v = (given[name] for name in _ARGUMENTS[:3])
        mask = given.get('attn_mask')
        of_keys = mask is None or (mask.dtype == torch.bool and mask.shape[:-1] == (len(q), 1, 1))
        plain = q.ndim == 4 and q.shape == k.shape == v.shape
        duals = [forward_ad.unpack_dual(x) for x in (q, k, v)]
        if not (plain and of_keys) or given.get('is_causal') or None in [d.tangent for d in duals]:
            # Such as Swin's bias, or a class token that attends: as torch defines it.
            with sdpa_kernel(SDPBackend.MATH):
                return func(*args, **kwargs)
        primals, tangents = zip(*duals, strict=True)
        scale = given.get('scale')
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        return forward_ad.make_dual(*jvp_attention(primals, tangents, mask, scale))


def jvp_attention(
    primals: Sequence[Tensor], tangents: Sequence[Tensor], mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """o = softmax(scale q k^T) v and its directional derivative along (dq, dk, dv).

    With the probabilities P and dS = scale (dq k^T + q dk^T), do = (P * dS) v - rowsum(P * dS) o + P dv:
    the correction per row is applied after the product with v, to d instead of N columns.

    Args:
        primals: q, k and v, each (windows, heads, N, d).
        tangents: dq, dk and dv, likewise.
        mask: (windows, 1, 1, N), true for tokens that take part; None: all do.
        scale: of the scores.

    Returns:
        o and do, both (windows, heads, N, d).
    """
    (q, k, v), (dq, dk, dv) = primals, tangents
    windows, heads, tokens, dim = q.shape
    # Both products of dS are computed as one product of twice the width, and so are P v and P dv.
    left = torch.cat([dq, q], -1).mul_(scale).flatten(0, 1)
    right = torch.cat([k, dk], -1).flatten(0, 1)
    values = torch.cat([v, dv], -1).flatten(0, 1)
    out = torch.empty_like(values)
    step = max(1, CHUNK_BYTES[q.device.type] // (tokens * tokens * q.element_size()))
    scores = q.new_empty(2, min(step, windows * heads), tokens, tokens)
    for first in range(0, windows * heads, step):
        chunk = slice(first, first + step)
        queries, keys, value = left[chunk], right[chunk].mT, values[chunk]
        probabilities, weights = scores[:, : len(queries)]
        torch.bmm(queries[..., dim:], keys[:, :dim], out=probabilities)
        if mask is not None:
            window = torch.arange(first, first + len(queries), device=mask.device) // heads
            probabilities.masked_fill_(~mask[window, 0], float('-inf'))
        torch.softmax(probabilities, -1, out=probabilities)
        torch.bmm(queries, keys, out=weights)
        weights.mul_(probabilities)
        both = torch.bmm(probabilities, value, out=out[chunk])
        o, tangent = both[..., :dim], both[..., dim:]
        tangent.baddbmm_(weights, value[..., :dim])
        tangent.addcmul_(weights.sum(-1, keepdim=True), o, value=-1)
    out = out.unflatten(0, (windows, heads))
    return out[..., :dim], out[..., dim:]
