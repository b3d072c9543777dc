"""The token grids of a network: the one place that says how sizes shrink and what is padded.

Pure integer functions of one side (height or width), shared by the model, which pads and windows
by them, and by the cost, which counts by them. Source: the published code for sizes that tile;
sizes that do not are rounded up (or as MERGE_ROUNDINGS says) and padded at the bottom and right, so that
a token's place does not depend on how far the image reaches beyond it.
"""

import operator
from collections.abc import Sequence

from .arch import NUM_STAGES
from .errors import InputError

BASE_STRIDE = 4
# What a merging makes of an odd side of n tokens: (n + 1) / 2, padded; (n - 1) / 2, not padded for the last
# token, which kernels of 2 leave out; or (n + 1) / 2 by a padding that makes n / 2 + 1 of an even side.
MERGE_ROUNDINGS = ('up', 'down', 'over')


def default_dilation(stride: int, kernel: int) -> int:
    """Dilation of the first projection at a coarser stride: max(1, (stride - 1) // (kernel - 1)).

    Progressive tokenization, paper section 3.5: stride 16, 8, 4 at kernel 4 give 5, 2, 1.
    """
    return max(1, (stride - 1) // (kernel - 1))


def check_token_stride(stride: int, dilation: int | None) -> None:
    """Refuse a stride or dilation that the first projection cannot take.

    Raises:
        InputError: the stride is no integer from 4 up, or the dilation none from 1 up.
    """
    if type(stride) is not int or stride < BASE_STRIDE:
        raise InputError(f'token stride {stride!r} is not an integer from {BASE_STRIDE} up')
    if dilation is not None and (type(dilation) is not int or dilation < 1):
        raise InputError(
            f'dilation {dilation!r} is not an integer from 1 up (or None for the rule)'
        )


def check_multiple(stride: int, base: int) -> None:
    """Refuse a stride at which tokens would not be joined from whole ones.

    Raises:
        InputError: it is no multiple of ``base``.
    """
    if stride % base:
        raise InputError(f'token stride {stride} is not a multiple of {base}')


def check_merge_rounding(rounding: str) -> None:
    """Refuse a rule that there is not.

    Raises:
        InputError: it is none of ``MERGE_ROUNDINGS``.
    """
    if rounding not in MERGE_ROUNDINGS:
        raise InputError(
            f'merge_rounding = {rounding!r} is not one of {", ".join(MERGE_ROUNDINGS)}'
        )


def fits_windows(size: int, stride: int, splits: Sequence[int], merge_rounding: str = 'up') -> bool:
    """Whether every stage keeps as many tokens a side as it has windows; so does the base stride anyway."""
    sizes = stage_sizes(size, stride, merge_rounding)
    return stride <= BASE_STRIDE or all(map(operator.ge, sizes, splits))


def check_fits_windows(
    size: int, stride: int, splits: Sequence[int], merge_rounding: str = 'up'
) -> None:
    """Refuse a token stride that leaves a stage fewer tokens per side than it has windows.

    Raises:
        InputError: it does, for an image side of ``size`` pixels.
    """
    if not fits_windows(size, stride, splits, merge_rounding):
        sizes = stage_sizes(size, stride, merge_rounding)
        raise InputError(
            f'token stride {stride} is too coarse for {size} pixels: fewer tokens per side '
            f'({", ".join(map(str, sizes))} in the stages) than windows ({", ".join(map(str, splits))})'
        )


def embedded(size: int, stride: int = BASE_STRIDE) -> int:
    """Tokens a side after the patch embedding of ``size`` pixels: ceil(size / stride)."""
    return -(-size // stride)


def embed_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Zeros (before, after) ``size`` pixels, such that the projection gives ``embedded`` tokens.

    At stride 4 on a multiple of 4 it is (K-4)//2 before and (K-4+1)//2 after.
    """
    reach = dilation * (kernel - 1) + 1
    before = max(0, reach - stride) // 2
    after = (embedded(size, stride) - 1) * stride + reach - size - before
    return before, max(0, after)


def merged(size: int, rounding: str = 'up') -> int:
    """Tokens a side after a patch merging: ceil(size / 2), or as another of ``MERGE_ROUNDINGS`` says."""
    return {'up': -(-size // 2), 'down': max(1, size // 2), 'over': size // 2 + 1}[rounding]


def merge_padding(size: int, kernel: int, rounding: str = 'up') -> tuple[int, int]:
    """Zeros (before, after) ``size`` tokens; below 0: tokens that are left out.

    (K-2)//2 and (K-1)//2 where an even side is halved, one more after an odd side that is rounded up.
    """
    before = (kernel - 2) // 2
    after = (merged(size, rounding) - 1) * 2 + kernel - size - before
    return before, after


def window_length(size: int, split: int, window_size: int | None = None) -> int:
    """Tokens a side of a window: ceil(size / split), or the fixed ``window_size`` up to ``size``."""
    return -(-size // split) if window_size is None else min(window_size, size)


def window_count(size: int, window: int) -> int:
    """Windows a side; the last one is padded where the windows do not tile ``size``."""
    return -(-size // window)


def stage_sizes(
    size: int, stride: int = BASE_STRIDE, merge_rounding: str = 'up'
) -> tuple[int, ...]:
    """Tokens a side in each of the four stages for an image side of ``size`` pixels."""
    sizes = [embedded(size, stride)]
    while len(sizes) < NUM_STAGES:
        sizes.append(merged(sizes[-1], merge_rounding))
    return tuple(sizes)


def as_pair(size: int | Sequence[int], name: str = 'img_size') -> tuple[int, int]:
    """(height, width) from one positive integer or a pair of them.

    Raises:
        InputError: it is neither.
    """
    pair = (size, size) if type(size) is int else tuple(size) if isinstance(size, Sequence) else ()
    if len(pair) != 2 or any(type(side) is not int or side < 1 for side in pair):
        raise InputError(
            f'{name} = {size!r} is not a positive integer or a (height, width) of them'
        )
    return pair[0], pair[1]


def as_window_sizes(window_size: int | Sequence[int | None] | None) -> tuple[int | None, ...]:
    """Fixed tokens a side of a window for each stage, None where (token grid / split) decides.

    Raises:
        InputError: neither None, nor a positive integer, nor four of these.
    """
    sizes = tuple(window_size) if isinstance(window_size, Sequence) else (window_size,) * NUM_STAGES
    if len(sizes) != NUM_STAGES or any(
        size is not None and (type(size) is not int or size < 1) for size in sizes
    ):
        raise InputError(
            f'window_size = {window_size!r} is not allowed: None, tokens a side, or four of these'
        )
    return sizes
