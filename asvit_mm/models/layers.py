"""Building blocks of As-ViT: patch embedding, attention, feed-forward layers, block.

Token maps are (B, H, W, C); inside a stage tokens are (B, windows, tokens of a window, C).
Source: As-ViT (arXiv 2202.11921) and its published search code.
"""

from collections.abc import Callable
from typing import Any

import torch
from mmcv.cnn import build_activation_layer
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..ops.attention import attend, fused_dim, takes_native
from ..tokens import BASE_STRIDE, check_token_stride, default_dilation, embed_padding
from .chunked.attention import Heads, attention, takes_attention
from .chunked.feed_forward import feed_forward, takes_feed_forward
from .linear import Linear, linear
from .norms import build_norm, norm_parameters
from .plain import is_plain, is_watched, known


class PatchEmbed(nn.Module):
    """Image (B, in_channels, H, W) to tokens (B, ceil(H / stride), ceil(W / stride), width).

    Stride and dilation can change at any time (progressive tokenization, paper section 3.5); the
    weights stay as they are.
    """

    def __init__(
        self, in_channels: int, width: int, kernel: int, norm_cfg: dict[str, Any] | None
    ) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, width, kernel, stride=BASE_STRIDE)
        self.norm = build_norm(norm_cfg, width)

    @property
    def stride(self) -> int:
        """Pixels between two tokens."""
        return self.proj.stride[0]

    @property
    def dilation(self) -> int:
        """Pixels between two taps of the kernel."""
        return self.proj.dilation[0]

    def set_stride(self, stride: int, dilation: int | None = None) -> None:
        """Set the stride, and the dilation or (None) what :func:`~asvit_mm.tokens.default_dilation` gives."""
        check_token_stride(stride, dilation)
        if dilation is None:
            dilation = default_dilation(stride, self.proj.kernel_size[0])
        self.proj.stride, self.proj.dilation = (stride, stride), (dilation, dilation)

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.proj.kernel_size[0]
        top, bottom = embed_padding(x.shape[2], kernel, self.stride, self.dilation)
        left, right = embed_padding(x.shape[3], kernel, self.stride, self.dilation)
        x = self.proj(F.pad(x, (left, right, top, bottom)))
        return self.norm(x.permute(0, 2, 3, 1))


@known
class QKVProjection(Linear):
    """Linear layer to the queries, keys and values of every head: (..., C) to (..., 3, heads, dim).

    ``dim`` is the head's width, rounded up by zeros where a kernel of torch's will run
    (:func:`~asvit_mm.ops.attention.fused_dim`).
    """

    def __init__(self, width: int, num_heads: int) -> None:
        self.num_heads, self.head_dim = num_heads, width // num_heads
        super().__init__(width, 3 * num_heads * self.head_dim)

    def padded(self, padding: int) -> tuple[Tensor, Tensor]:
        """Weight and bias with ``padding`` rows of zeros after those of each head."""
        heads = (3 * self.num_heads, self.head_dim)
        weight: Tensor = self.weight
        bias: Tensor = self.bias
        if padding:
            weight = F.pad(weight.unflatten(0, heads), (0, 0, 0, padding)).flatten(0, 1)
            bias = F.pad(bias.unflatten(0, heads), (0, padding)).flatten()
        return weight, bias

    def forward(self, x: Tensor) -> Tensor:
        dim = self.head_dim if takes_native(x) else fused_dim(self.head_dim)
        weight, bias = self.padded(dim - self.head_dim)
        return linear(x, weight, bias).unflatten(-1, (3, self.num_heads, dim))


@known
class HeadsProjection(Linear):
    """Linear layer from all heads' outputs: (..., heads, dim) to (..., C).

    ``dim`` may be wider than the head, as :class:`QKVProjection` gives it; what is beyond the head is
    multiplied by zero.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        self.num_heads, self.head_dim = num_heads, width // num_heads
        super().__init__(num_heads * self.head_dim, width)

    def forward(self, x: Tensor) -> Tensor:
        weight = pad_heads(self.weight, self.num_heads, x.shape[-1] - self.head_dim)
        return linear(x.flatten(-2), weight, self.bias)


def pad_heads(weight: Tensor, num_heads: int, padding: int) -> Tensor:
    """Columns (out, heads * dim) with ``padding`` columns of zeros after those of each head."""
    return (
        F.pad(weight.unflatten(1, (num_heads, -1)), (0, padding)).flatten(1) if padding else weight
    )


@known
class WindowAttention(nn.Module):
    """Multi-head self-attention inside each window: (B, windows, N, C) to the same.

    No shift and no relative position bias. A head is floor(C / heads) wide, so the heads together may be
    narrower than C; the output projection brings C back.
    """

    def __init__(self, width: int, num_heads: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.scale = (width // num_heads) ** -0.5
        self.qkv = QKVProjection(width, num_heads)
        self.proj = HeadsProjection(width, num_heads)
        self.proj_drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        out = attend(self.qkv(x).flatten(0, 1), self.scale, mask)
        return self.proj_drop(self.proj(out.unflatten(0, x.shape[:2])))

    def in_chunks(self, norm: nn.Module, x: Tensor, mask: Tensor | None = None) -> Tensor | None:
        """self(norm(x), mask) on some windows at a time; None where that cannot be, or is not worth it."""
        parameters = norm_parameters(norm) if self.can_chunk else None
        if parameters is not None:
            weights, eps = parameters
            qkv, proj = (self.qkv.weight, self.qkv.bias), (self.proj.weight, self.proj.bias)
            heads = Heads(self.qkv.num_heads, self.scale, eps)
            if takes_attention(x, weights, qkv, proj, heads, mask):
                return self.proj_drop(attention(x, weights, qkv, proj, heads, mask))
        return None

    @property
    def can_chunk(self) -> bool:
        """Whether the layers are the plain ones: nothing has taken a layer's place or watches it."""
        return (
            type(self.qkv) is QKVProjection
            and type(self.proj) is HeadsProjection
            and self.qkv.bias is not None
            and self.proj.bias is not None
            and not any(map(is_watched, (self.qkv, self.proj)))
        )


@known
class FeedForward(nn.Module):
    """Linear, activation, linear on every token."""

    def __init__(
        self, width: int, hidden: int, act_cfg: dict[str, Any], drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        self.fc1 = Linear(width, hidden)
        self.act = build_activation_layer(act_cfg)
        self.fc2 = Linear(hidden, width)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))

    def in_chunks(self, norm: nn.Module, x: Tensor) -> Tensor | None:
        """self(norm(x)) on some tokens at a time; None where that cannot be, or is not worth it."""
        parameters = norm_parameters(norm) if self.can_chunk else None
        if parameters is not None:
            weights, eps = parameters
            fc1, fc2 = (self.fc1.weight, self.fc1.bias), (self.fc2.weight, self.fc2.bias)
            if takes_feed_forward(x, weights, fc1, fc2):
                return feed_forward(x, weights, fc1, fc2, eps)
        return None

    @property
    def can_chunk(self) -> bool:
        """Whether the layers are the plain ones that :mod:`~asvit_mm.models.chunked.feed_forward` knows.

        Not where dropout stands between them, nor where something has taken a layer's place or watches it
        (adapters, quantization, hooks).
        """
        return (
            type(self.fc1) is type(self.fc2) is Linear
            and self.fc1.bias is not None
            and self.fc2.bias is not None
            and type(self.act) is nn.GELU
            and self.act.approximate == 'none'
            and type(self.drop) is nn.Dropout
            and not (self.drop.training and self.drop.p)
            and not any(map(is_watched, self.children()))
        )


def after_norm(
    layer: nn.Module,
    norm: nn.Module,
    x: Tensor,
    *mask: Tensor | None,
    otherwise: Callable[..., Tensor] | None = None,
) -> Tensor:
    """layer(norm(x), *mask), in chunks (:mod:`~asvit_mm.models.chunked`) where nobody would see that.

    What has taken the layer's place, wraps, watches, compiles or traces it sees a call of it, by
    ``otherwise(layer, norm, x, *mask)`` if that is given.
    """
    if type(layer) in (WindowAttention, FeedForward) and is_plain(x) and not is_watched(layer):
        in_chunks: Any = layer.in_chunks
        out: Tensor | None = in_chunks(norm, x, *mask)
        if out is not None:
            return out
    return (otherwise or _called)(layer, norm, x, *mask)


def _called(layer: nn.Module, norm: nn.Module, x: Tensor, *mask: Tensor | None) -> Tensor:
    out: Tensor = layer(norm(x), *mask)
    return out


def _checkpointed(layer: nn.Module, norm: nn.Module, x: Tensor, *mask: Tensor | None) -> Tensor:
    out: Tensor = checkpoint(_called, layer, norm, x, *mask, use_reentrant=False)
    return out


class Block(nn.Module):
    """Pre-norm transformer block on windows: x + attention(norm x), then x + feed-forward(norm x)."""

    def __init__(
        self,
        width: int,
        num_heads: int,
        expansion: int,
        drop_rate: float,
        drop_path_rate: float,
        norm_cfg: dict[str, Any] | None,
        act_cfg: dict[str, Any],
        recompute_attention: bool = False,
    ) -> None:
        super().__init__()
        self.recompute_attention = recompute_attention
        self.norm1 = build_norm(norm_cfg, width)
        self.attn = WindowAttention(width, num_heads, drop_rate)
        self.norm2 = build_norm(norm_cfg, width)
        self.ffn = FeedForward(width, expansion * width, act_cfg, drop_rate)
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate > 0 else nn.Identity()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + self.drop_path(self.attend(x, mask))
        return x + self.drop_path(after_norm(self.ffn, self.norm2, x))

    def attend(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """attn(norm1(x)); with ``recompute_attention`` the backward pass computes what it needs again.

        That is queries, keys and values where attention runs in chunks, and all of it elsewhere.
        """
        if self.recompute_attention and self.training and torch.is_grad_enabled():
            return after_norm(self.attn, self.norm1, x, mask, otherwise=_checkpointed)
        return self.attn(self.norm1(x), mask)
