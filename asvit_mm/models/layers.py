"""Building blocks of As-ViT: patch embedding, patch merging, attention, block, windows.

Token maps are (B, H, W, C); inside a stage tokens are (B, windows, tokens of a window, C).
Source: paper.md section 1 (As-ViT, arXiv 2202.11921, section 3.2 and appendix).
"""

from typing import Any

import torch
from mmcv.cnn import build_activation_layer, build_norm_layer
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn
from torch.nn import functional as F

from ..tokens import (
    BASE_STRIDE,
    check_token_stride,
    default_dilation,
    embed_padding,
    merge_padding,
    window_count,
)


def build_norm(norm_cfg: dict[str, Any] | None, width: int) -> nn.Module:
    """A norm over the last axis; ``None`` is the identity, as the length distortion needs it."""
    return nn.Identity() if norm_cfg is None else build_norm_layer(norm_cfg, width)[1]


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
        """Set the stride, and the dilation or (None) what the rule of paper.md section 5 gives."""
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


class PatchMerging(nn.Module):
    """Tokens (B, H, W, C) to (B, ceil(H / 2), ceil(W / 2), out_width).

    Patches of kernel x kernel tokens at stride 2, channel-major as ``torch.nn.Unfold`` orders them,
    then a norm over kernel * kernel * C and a linear layer without bias.
    """

    def __init__(
        self, width: int, out_width: int, kernel: int, norm_cfg: dict[str, Any] | None
    ) -> None:
        super().__init__()
        self.kernel = kernel
        self.norm = build_norm(norm_cfg, kernel * kernel * width)
        self.reduction = nn.Linear(kernel * kernel * width, out_width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        top, bottom = merge_padding(x.shape[1], self.kernel)
        left, right = merge_padding(x.shape[2], self.kernel)
        x = F.pad(x, (0, 0, left, right, top, bottom))
        patches = x.unfold(1, self.kernel, 2).unfold(2, self.kernel, 2)  # (B, h, w, C, K, K)
        return self.reduction(self.norm(patches.flatten(3)))


class WindowAttention(nn.Module):
    """Multi-head self-attention inside each window: (B, windows, N, C) to the same.

    No shift and no relative position bias. A head is floor(C / heads) wide, so the heads together may be
    narrower than C; the output projection brings C back.
    """

    def __init__(self, width: int, num_heads: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = width // num_heads
        inner = self.num_heads * self.head_dim
        self.qkv = nn.Linear(width, 3 * inner)
        self.proj = nn.Linear(inner, width)
        self.proj_drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        batch, windows, tokens, _ = x.shape
        qkv = self.qkv(x).view(batch * windows, tokens, 3, self.num_heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x.transpose(1, 2).reshape(batch, windows, tokens, -1)
        return self.proj_drop(self.proj(x))


class FeedForward(nn.Module):
    """Linear, activation, linear on every token."""

    def __init__(
        self, width: int, hidden: int, act_cfg: dict[str, Any], drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = build_activation_layer(act_cfg)
        self.fc2 = nn.Linear(hidden, width)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))


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
    ) -> None:
        super().__init__()
        self.norm1 = build_norm(norm_cfg, width)
        self.attn = WindowAttention(width, num_heads, drop_rate)
        self.norm2 = build_norm(norm_cfg, width)
        self.ffn = FeedForward(width, expansion * width, act_cfg, drop_rate)
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate > 0 else nn.Identity()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x), mask))
        return x + self.drop_path(self.ffn(self.norm2(x)))


def partition_windows(x: Tensor, window: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
    """Tokens (B, H, W, C) to windows (B, windows, tokens of a window, C), and the attention mask.

    Where windows do not tile the map it is padded at the bottom and right. The mask then is
    (B * windows, 1, 1, tokens of a window), true where a token may be attended to, so that padding
    reaches no token of the map; without padding it is None.
    """
    batch, height, width, channels = x.shape
    window_h, window_w = window
    rows, columns = window_count(height, window_h), window_count(width, window_w)
    bottom, right = rows * window_h - height, columns * window_w - width
    mask = None
    if bottom or right:
        valid = F.pad(x.new_ones(height, width, dtype=torch.bool), (0, right, 0, bottom))
        valid = valid.view(rows, window_h, columns, window_w).transpose(1, 2)
        valid = valid.reshape(1, rows * columns, window_h * window_w)
        mask = valid.expand(batch, -1, -1).flatten(0, 1)[:, None, None]
        x = F.pad(x, (0, 0, 0, right, 0, bottom))
    x = x.reshape(batch, rows, window_h, columns, window_w, channels).transpose(2, 3)
    return x.reshape(batch, rows * columns, window_h * window_w, channels), mask


def reverse_windows(x: Tensor, window: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """The inverse of :func:`partition_windows`: windows back to tokens (B, H, W, C), padding cut."""
    height, width = size
    window_h, window_w = window
    rows, columns = window_count(height, window_h), window_count(width, window_w)
    x = x.reshape(x.shape[0], rows, columns, window_h, window_w, x.shape[-1]).transpose(2, 3)
    x = x.reshape(x.shape[0], rows * window_h, columns * window_w, x.shape[-1])
    return x[:, :height, :width]
