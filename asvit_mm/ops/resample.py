"""Resampling of maps, also where torch has no deterministic derivative of it."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F


def resample(x: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """``F.interpolate`` of a map (B, C, h, w) to (B, C, *size).

    The derivative of a bicubic interpolation on CUDA adds in any order, so torch refuses it under
    deterministic algorithms (MMEngine's ``randomness.deterministic``): matrix products compute it then.
    """
    if torch.jit.is_scripting():  # it cannot ask
        return F.interpolate(x, size, mode=mode)
    elif x.is_cuda and torch.are_deterministic_algorithms_enabled():
        return resample_by_matrices(x, size, mode)
    return F.interpolate(x, size, mode=mode)


def resample_positions(pos: Tensor, rows: int, columns: int) -> Tensor:
    """Position embedding (1, h, w, C) to (1, rows, columns, C), bicubic."""
    return resample(pos.permute(0, 3, 1, 2), (rows, columns), 'bicubic').permute(0, 2, 3, 1)


def resample_by_matrices(x: Tensor, size: Sequence[int], mode: str) -> Tensor:
    """What ``F.interpolate`` computes, as one matrix product per axis: (B, C, h, w) to (B, C, *size)."""
    rows, columns = (
        _matrix(before, after, mode, x) for before, after in zip(x.shape[2:], size, strict=True)
    )
    with torch.autocast(x.device.type, enabled=False):  # in the precision of x, as F.interpolate
        return rows @ x @ columns.mT


def _matrix(before: int, after: int, mode: str, like: Tensor) -> Tensor:
    """The matrix (after, before) of an interpolation along one axis: that of the unit vectors."""
    unit = torch.eye(before, device=like.device, dtype=like.dtype)[None, :, :, None]
    return F.interpolate(unit, (after, 1), mode=mode)[0, :, :, 0].T


@lru_cache
def kernel_resize_matrix(kernel: int, factor: int) -> Tensor:
    """The matrix (factor * kernel, kernel) that enlarges a convolution's kernel along one axis.

    PI-resize of FlexiViT (arXiv 2212.08013, section 3.4): the pseudo-inverse of the transposed bilinear
    interpolation. The enlarged kernel answers to an image enlarged by ``factor`` as the kernel does to the
    image itself.
    """
    unit = torch.eye(kernel, dtype=torch.float64)[None, None]
    enlarge = F.interpolate(unit, (factor * kernel, kernel), mode='bilinear')[0, 0]
    return torch.linalg.pinv(enlarge.T).float()


def enlarge_kernel(weight: Tensor, matrix: Tensor) -> Tensor:
    """A weight (C, C_in, k, k) as (C, C_in, m * k, m * k), by a matrix of :func:`kernel_resize_matrix`."""
    matrix = matrix.to(weight.device, weight.dtype)
    if torch.jit.is_scripting():
        return matrix @ weight @ matrix.transpose(0, 1)
    else:
        with torch.autocast(weight.device.type, enabled=False):
            return matrix @ weight @ matrix.mT
