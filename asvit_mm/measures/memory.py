"""Bounded memory: estimates of what an image takes, and passes over as many images as fit.

A measure with a ``memory_limit`` processes its images in several passes if they do not fit in one.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch

from ..arch import Architecture
from ..cost import stage_macs, token_grids
from ..errors import InputError
from ..tokens import ImageSize, window_length

T = TypeVar('T')

# Peak memory of a second derivative over that of the attention scores and features of the largest block:
# the value, two first derivatives and the second one, before and after the softmax, and temporaries.
# Chosen above the resident memory seen for large and small windows.
_SECOND_ORDER_COPIES = 16


def activation_bytes(
    estimate: Callable[[Architecture, ImageSize, int], int],
    model: Any,
    img_size: ImageSize,
    itemsize: int,
) -> int:
    """An estimate below, for the architecture of a model; 0 for a model of another kind."""
    arch = getattr(model, 'architecture', None)
    return 0 if arch is None else estimate(arch, img_size, itemsize)


def forward_bytes(arch: Architecture, img_size: ImageSize, itemsize: int) -> int:
    """Peak memory in bytes of the activations of one image's forward pass without gradients.

    An upper estimate: the widest step of any block or merging, with its input and residual, without
    attention scores, which are computed in chunks of a fixed size.
    """
    steps = []
    for i, (h, w) in enumerate(token_grids(img_size, arch.stride)):
        tokens, width = h * w, arch.widths[i]
        steps.append(tokens * width * (2 + max(8, 3 * arch.expansions[i])))
        if i > 0:
            patch = arch.kernels[i] ** 2 * arch.widths[i - 1]
            steps.append(tokens * (2 * patch + width) + 4 * tokens * arch.widths[i - 1])
    return max(steps) * itemsize


def backward_bytes(arch: Architecture, img_size: ImageSize, itemsize: int) -> int:
    """Bytes of the activations of one image's forward and backward pass: an upper estimate."""
    saved = 0
    for i, (h, w) in enumerate(token_grids(img_size, arch.stride)):
        tokens, width = h * w, arch.widths[i]
        # Norms, queries, keys, values, attention output, residuals; before and after the activation.
        saved += arch.depths[i] * tokens * width * (14 + 2 * arch.expansions[i])
        if i > 0:
            saved += 2 * tokens * arch.kernels[i] ** 2 * arch.widths[i - 1]
    return saved * itemsize + 3 * forward_bytes(arch, img_size, itemsize)


def second_order_bytes(arch: Architecture, img_size: ImageSize, itemsize: int) -> int:
    """Estimated peak memory in bytes of one image's second derivative in forward mode.

    The largest block determines it: its attention scores and the inputs and outputs of its linear layers.
    """
    stages = zip(stage_macs(arch, img_size), arch.depths, arch.head_dims, arch.widths, strict=True)
    largest = max(
        macs.attention // (2 * depth * head_dim) + macs.linear // (depth * width)
        for macs, depth, head_dim, width in stages
    )
    return _SECOND_ORDER_COPIES * largest * itemsize


def window_tokens(arch: Architecture, img_size: ImageSize) -> int:
    """Number of tokens of the largest attention window of any stage."""
    grids = zip(token_grids(img_size, arch.stride), arch.splits, strict=True)
    return max(window_length(h, split) * window_length(w, split) for (h, w), split in grids)


def in_chunks(
    compute: Callable[[int], T],
    count: int,
    *,
    image_bytes: int,
    fixed_bytes: int = 0,
    memory_limit: int | None = None,
) -> T:
    """``compute(chunk_size)`` with the largest chunks of images that fit in memory.

    After each failure to allocate GPU memory, chunks of half the size are tried.

    Args:
        compute: processes all images, ``chunk_size`` of them per pass.
        count: number of images.
        image_bytes: memory that a pass takes per image.
        fixed_bytes: memory that a pass takes however many images it has.
        memory_limit: bytes that a pass may take; None: no limit.

    Raises:
        InputError: the limit, or the GPU's memory, is too small for a single image.
    """
    if memory_limit is not None:
        needed = fixed_bytes + image_bytes
        if needed > memory_limit:
            raise InputError(
                f'a memory limit of {memory_limit / 2**30:.3g} GiB is too small for a single image: give at '
                f'least {needed / 2**30:.3g} GiB, or smaller or fewer images'
            )
        count = min(count, (memory_limit - fixed_bytes) // image_bytes)
    while True:
        try:
            return compute(count)
        except torch.OutOfMemoryError:
            if count == 1:
                raise InputError(
                    'the GPU has too little memory for a single image: give smaller images, or --device cpu'
                ) from None
        torch.cuda.empty_cache()
        count = -(-count // 2)
