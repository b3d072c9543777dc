"""Resampling of maps, also where torch has no deterministic derivative of it."""

from collections.abc import Sequence

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
