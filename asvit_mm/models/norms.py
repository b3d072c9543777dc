"""Norms over the last axis: built from a config, and read where their own module is not called."""

from typing import Any

from mmcv.cnn import build_norm_layer
from torch import Tensor, nn

from .plain import is_watched

# Weight and bias of a LayerNorm; none where there is no norm.
Norm = tuple[Tensor | None, Tensor | None]


def build_norm(norm_cfg: dict[str, Any] | None, width: int) -> nn.Module:
    """A norm over the last axis; ``None`` is the identity, as the length distortion needs it."""
    return nn.Identity() if norm_cfg is None else build_norm_layer(norm_cfg, width)[1]


def norm_parameters(norm: nn.Module) -> tuple[Norm, float] | None:
    """Weight and bias (None of an identity) and eps of a norm over the last axis; None of another module.

    Nor of a norm that is watched.
    """
    if is_watched(norm):
        return None
    if type(norm) is nn.Identity:
        return (None, None), 0.0
    if type(norm) is nn.LayerNorm and norm.weight is not None and norm.bias is not None:
        return (norm.weight, norm.bias), norm.eps
    return None
