"""Windows of a token map: cut, padded and masked where they do not tile it, and joined again."""

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.nn import functional as F

from ..tokens import window_count, window_length


def traced_window_length(size: int, split: int, window_size: int | None) -> int:
    """:func:`~asvit_mm.tokens.window_length`, of a size that may be free in an export.

    There a fixed window that is larger than the map is padded and masked instead of cut, which gives the
    same.
    """
    if window_size is not None and isinstance(size, torch.SymInt):
        return window_size
    return window_length(size, split, window_size)


def pads(amount: int) -> bool:
    """Whether there is padding: in an export, where a size is free, unless it is known to be none."""
    return (
        not statically_known_true(amount == 0) if isinstance(amount, torch.SymInt) else amount != 0
    )


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
    if pads(bottom) or pads(right):
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
