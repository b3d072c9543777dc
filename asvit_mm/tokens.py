"""Token grids: how sizes shrink from stage to stage, and how much padding there is.

Integer functions of one side (height or width). The model pads and partitions by them, :mod:`asvit_mm.cost`
counts by them. Sizes that windows and patches tile come out as in the published code. Others are rounded up
(or as MERGE_ROUNDINGS says) and padded at the bottom and right, so that the position of a token does not
depend on how far the image extends beyond it.
"""

import operator
import warnings
from collections.abc import Sequence

from .arch import BASE_STRIDE, NUM_STAGES, Architecture
from .errors import InputError

# Pixels of an image: one side of a square, or (height, width).
ImageSize = int | Sequence[int]

# Largest side of an image: one position vector per token at stride 4 takes 1.5 GB in As-ViT-Small.
MAX_SIZE = 8192
# How the patch embedding's kernel covers a coarse token: its taps spread, or the kernel enlarged.
TOKEN_PROJECTIONS = ('dilate', 'resize')
# Tokens per side after patch merging of n tokens. 'up': n / 2 rounded up, by padding. 'down': n / 2 rounded
# down, at least 1; a kernel of 2 then ignores the last token of an odd side. 'over': floor(n / 2) + 1, which
# for an odd side is the same as 'up', and for an even side one token more.
MERGE_ROUNDINGS = ('up', 'down', 'over')


def default_dilation(stride: int, kernel: int) -> int:
    """Dilation of the patch embedding at a coarse stride: max(1, (stride - 1) // (kernel - 1)).

    Progressive tokenization, paper section 3.5: strides 16, 8, 4 with kernel 4 give 5, 2, 1.
    """
    return max(1, (stride - 1) // (kernel - 1))


def check_token_stride(
    stride: int, dilation: int | None, lowest: int = 1, multiple_of: int = 1
) -> None:
    """Check stride and dilation of the patch embedding.

    Args:
        lowest: stride that is allowed.
        multiple_of: the finest stride, so that coarse tokens consist of whole fine ones.

    Raises:
        InputError: the stride is not an integer from ``lowest`` up or not such a multiple, or the dilation is
            not an integer >= 1 or None.
    """
    if type(stride) is not int or stride < lowest:
        raise InputError(f'token stride {stride!r} is not an integer >= {lowest}')
    if dilation is not None and (type(dilation) is not int or dilation < 1):
        raise InputError(f'dilation {dilation!r} is neither an integer >= 1 nor None (the default)')
    if stride % multiple_of:
        raise InputError(f'token stride {stride} is not a multiple of {multiple_of}')


def fits_windows(size: int, stride: int, splits: Sequence[int], merge_rounding: str = 'up') -> bool:
    """Whether every stage has at least as many tokens per side as windows."""
    return all(map(operator.ge, stage_sizes(size, stride, merge_rounding), splits))


def check_windows(
    img_size: ImageSize, stride: int, splits: Sequence[int], merge_rounding: str = 'up'
) -> None:
    """Raise an InputError if a stage has fewer tokens per side than windows."""
    for side in as_pair(img_size):
        if not fits_windows(side, stride, splits, merge_rounding):
            sizes = stage_sizes(side, stride, merge_rounding)
            raise InputError(
                f'token stride {stride} is too coarse for {side} pixels: fewer tokens per side '
                f'({", ".join(map(str, sizes))} in the stages) than windows '
                f'({", ".join(map(str, splits))})'
            )


def warn_of_single_tokens(
    arch: Architecture, img_size: ImageSize, window_sizes: Sequence[int | None]
) -> None:
    """Warn if windows are single tokens although the map has more: attention does nothing there."""
    side = min(as_pair(img_size))
    stages = zip(stage_sizes(side, arch.stride), arch.splits, window_sizes, strict=True)
    single = [
        str(number)
        for number, (grid, split, window) in enumerate(stages, start=1)
        if grid > 1 and window_length(grid, split, window) == 1
    ]
    if single:
        warnings.warn(
            f'{arch} at {side} pixels: the windows of stage {", ".join(single)} are single tokens, so '
            'attention does nothing there: give fewer splits, a finer stride, or window_size',
            stacklevel=3,
        )


def embedded(size: int, stride: int = BASE_STRIDE) -> int:
    """Tokens per side after the patch embedding of ``size`` pixels: ceil(size / stride)."""
    return -(-size // stride)


def embed_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Zero padding (before, after) of ``size`` pixels for :func:`embedded` tokens.

    At stride 4 on a multiple of 4 these are (K-4)//2 and (K-4+1)//2.
    """
    reach = dilation * (kernel - 1) + 1
    before = max(0, reach - stride) // 2
    after = (embedded(size, stride) - 1) * stride + reach - size - before
    return before, max(0, after)


def merged(size: int, rounding: str = 'up') -> int:
    """Tokens per side after patch merging: ceil(size / 2), or by another of ``MERGE_ROUNDINGS``."""
    return {'up': -(-size // 2), 'down': max(1, size // 2), 'over': size // 2 + 1}[rounding]


def merge_padding(size: int, kernel: int, rounding: str = 'up') -> tuple[int, int]:
    """Zero padding (before, after) of ``size`` tokens for :func:`merged` tokens; negative: tokens cut off.

    (K-2)//2 and (K-1)//2 where an even side is halved; one more after an odd side that is rounded up.
    """
    before = (kernel - 2) // 2
    return before, (merged(size, rounding) - 1) * 2 + kernel - size - before


def window_length(size: int, split: int, window_size: int | None = None) -> int:
    """Tokens per side of a window: ceil(size / split), or a fixed ``window_size``, at most ``size``."""
    return -(-size // split) if window_size is None else min(window_size, size)


def window_count(size: int, window: int) -> int:
    """Windows of ``window`` tokens per side; the last one is padded if they do not tile ``size``."""
    return -(-size // window)


def stage_sizes(
    size: int, stride: int = BASE_STRIDE, merge_rounding: str = 'up'
) -> tuple[int, ...]:
    """Tokens per side in each of the four stages for an image side of ``size`` pixels."""
    sizes = [embedded(size, stride)]
    while len(sizes) < NUM_STAGES:
        sizes.append(merged(sizes[-1], merge_rounding))
    return tuple(sizes)


def as_pair(size: ImageSize, name: str = 'img_size') -> tuple[int, int]:
    """(height, width) from one integer in 1..MAX_SIZE or a pair of them; an InputError for anything else."""
    pair = (size, size) if type(size) is int else tuple(size) if isinstance(size, Sequence) else ()
    if len(pair) != 2 or any(type(side) is not int or side < 1 for side in pair):
        raise InputError(
            f'{name} = {size!r} is neither a positive integer nor a pair (height, width) of them'
        )
    if max(pair) > MAX_SIZE:
        raise InputError(f'{name} = {size!r} is too large: give at most {MAX_SIZE} pixels')
    return pair[0], pair[1]


def as_window_sizes(window_size: int | Sequence[int | None] | None) -> tuple[int | None, ...]:
    """Fixed tokens per side of a window for each stage; None where (token grid / split) determines them."""
    sizes = tuple(window_size) if isinstance(window_size, Sequence) else (window_size,) * NUM_STAGES
    if len(sizes) != NUM_STAGES or any(
        size is not None and (type(size) is not int or size < 1) for size in sizes
    ):
        raise InputError(
            f'window_size = {window_size!r} is not allowed: give None, tokens per side, or four of these'
        )
    return sizes
