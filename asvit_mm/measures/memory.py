"""How many images a measure takes at a time, so that it stays within a bound of memory."""

from collections.abc import Callable
from typing import TypeVar

import torch

from ..arch import Architecture
from ..cost import token_grids
from ..errors import InputError
from ..tokens import as_pair, window_length

T = TypeVar('T')


def window_tokens(arch: Architecture, img_size: int | tuple[int, int]) -> int:
    """Tokens of the largest window of any stage."""
    return max(
        window_length(h, split) * window_length(w, split)
        for (h, w), split in zip(token_grids(as_pair(img_size)), arch.splits, strict=True)
    )


def forward_bytes(arch: Architecture, img_size: int | tuple[int, int], itemsize: int) -> int:
    """Bytes of activations at the peak of one image's forward pass without gradients.

    An upper estimate: the widest step of any block or merging, its input and residual included. The scores of
    attention are not in it: they are computed in pieces of a fixed size.
    """
    steps = []
    for i, (h, w) in enumerate(token_grids(as_pair(img_size))):
        tokens, width = h * w, arch.widths[i]
        steps.append(tokens * width * (2 + max(8, 3 * arch.expansions[i])))
        if i > 0:
            patch = arch.kernels[i] ** 2 * arch.widths[i - 1]
            steps.append(tokens * (2 * patch + width) + 4 * tokens * arch.widths[i - 1])
    return max(steps) * itemsize


def backward_bytes(arch: Architecture, img_size: int | tuple[int, int], itemsize: int) -> int:
    """Bytes of activations that one image's forward and backward pass keep: an upper estimate."""
    kept = 0
    for i, (h, w) in enumerate(token_grids(as_pair(img_size))):
        tokens, width = h * w, arch.widths[i]
        # Norms, q, k, v (padded heads), attention's output, residuals; before and after the activation.
        kept += arch.depths[i] * tokens * width * (14 + 2 * arch.expansions[i])
        if i > 0:
            kept += 2 * tokens * arch.kernels[i] ** 2 * arch.widths[i - 1]
    return kept * itemsize + 3 * forward_bytes(arch, img_size, itemsize)


def images_at_a_time(count: int, each: int, limit: int | None, fixed: int = 0) -> int:
    """Images of ``each`` bytes that fit ``limit`` beside ``fixed`` bytes; all ``count`` without a limit.

    Raises:
        InputError: not even one fits.
    """
    if limit is None:
        return count
    if fixed + each > limit:
        raise InputError(
            f'{limit / 2**30:.3g} GiB are too little memory for one image at a time: give at least '
            f'{(fixed + each) / 2**30:.3g} GiB, a smaller image or fewer of them'
        )
    return min(count, (limit - fixed) // each)


def until_it_fits(compute: Callable[[int], T], at_a_time: int) -> T:
    """``compute(images at a time)``, with half as many after each failure to get GPU memory.

    Raises:
        InputError: there is no memory for a single image.
    """
    while True:
        try:
            return compute(at_a_time)
        except torch.OutOfMemoryError:
            if at_a_time == 1:
                raise InputError(
                    'the GPU has no memory for one image at a time: give a smaller image, or --device cpu'
                ) from None
        torch.cuda.empty_cache()
        at_a_time = -(-at_a_time // 2)
