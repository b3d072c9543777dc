"""Attention and its derivative along a direction, in chunks that fit the cache.

No fused attention kernel has a forward-mode derivative, and the explicit form writes every matrix of
scores to memory several times over. Here heads are taken a few at a time, so that what is written is
still in the cache when it is read.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

# Bytes of one matrix of scores a chunk: what two cores' second-level caches hold of it, and on a GPU
# enough heads to fill the device.
CHUNK_BYTES = {'cpu': 5 << 20, 'cuda': 1 << 30}


def explicit_attention() -> AbstractContextManager[None]:
    """Within it, heads keep their own width: nothing is padded for a fused kernel."""
    return sdpa_kernel(SDPBackend.MATH)


def scores_bytes(tokens: int, itemsize: int, device: torch.device) -> int:
    """Bytes of the two pieces of scores that :func:`dual_attention` holds for windows of ``tokens``."""
    return 2 * max(CHUNK_BYTES[device.type], tokens * tokens * itemsize)


class DualAttention(TorchFunctionMode):
    """Within it, ``scaled_dot_product_attention`` takes dual tensors (torch.autograd.forward_ad)."""

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
        (q, dq), (k, dk), (v, dv) = (forward_ad.unpack_dual(x) for x in args)
        assert dq is not None
        assert dk is not None
        assert dv is not None
        out, tangent = dual_attention(
            q, k, v, dq, dk, dv, mask=kwargs['attn_mask'], scale=kwargs['scale']
        )
        return forward_ad.make_dual(out, tangent)


def dual_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dq: Tensor,
    dk: Tensor,
    dv: Tensor,
    *,
    mask: Tensor | None,
    scale: float,
    chunk_bytes: int | None = None,
) -> tuple[Tensor, Tensor]:
    """o = softmax(scale q k^T) v and its derivative along (dq, dk, dv).

    With P the softmax and dS = scale (dq k^T + q dk^T), do = (P * dS) v - rowsum(P * dS) o + P dv: the
    correction of each row is applied after the product with v, where it is d numbers wide, not N.

    Args:
        q, k, v, dq, dk, dv: (windows, heads, N, d).
        mask: None or (windows, 1, 1, N), true where a token may be attended to.
        scale: of the scores.
        chunk_bytes: bytes of the scores of the heads that are taken together; None: by the device.

    Returns:
        o and do, both (windows, heads, N, d).
    """
    windows, heads, tokens, dim = q.shape
    # Rows of one product each, the two score products of the derivative as one of twice the width.
    left = torch.cat([dq, q], -1).mul_(scale).flatten(0, 1)
    right = torch.cat([k, dk], -1).flatten(0, 1)
    values = torch.cat([v, dv], -1).flatten(0, 1)
    out = torch.empty_like(values)
    if chunk_bytes is None:
        chunk_bytes = CHUNK_BYTES[q.device.type]
    step = max(1, chunk_bytes // (tokens * tokens * q.element_size()))
    scores = q.new_empty(2, min(step, windows * heads), tokens, tokens)
    for first in range(0, windows * heads, step):
        part = slice(first, first + step)
        queries, keys, value = left[part], right[part].mT, values[part]
        probabilities, weights = scores[:, : len(queries)]
        torch.bmm(queries[..., dim:], keys[:, :dim], out=probabilities)
        if mask is not None:
            window = torch.arange(first, first + len(queries), device=mask.device) // heads
            probabilities.masked_fill_(~mask[window, 0], float('-inf'))
        torch.softmax(probabilities, -1, out=probabilities)
        torch.bmm(queries, keys, out=weights)
        weights.mul_(probabilities)
        both = torch.bmm(probabilities, value, out=out[part])
        o, tangent = both[..., :dim], both[..., dim:]
        tangent.baddbmm_(weights, value[..., :dim])
        tangent.addcmul_(weights.sum(-1, keepdim=True), o, value=-1)
    out = out.unflatten(0, (windows, heads))
    return out[..., :dim], out[..., dim:]
