"""Norm and linear layer of patch merging, in the order of channels that a compiler can vectorize."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def norm_and_reduce(patches: Tensor, norm: Any, reduction: Any) -> Tensor:
    """``reduction(norm(patches))`` of patches (B, h, w, C, K, K), flattened channel by channel.

    Inside ``torch.compile`` the patches are flattened token by token, as they lie in memory, and the weights
    are rearranged instead, which freezing does once: element by element, inductor's gather takes longer than
    everything else of the merging but the matrix product. In eager mode it would change the last digits for
    little, and modules that are not what they were built as (adapters, quantized, with hooks) are called.
    """
    if torch.compiler.is_dynamo_compiling() and _is_plain(norm) and _is_plain(reduction):
        channels = patches.shape[3]
        gain, bias, weight = (
            value.unflatten(-1, (channels, -1)).transpose(-1, -2).flatten(-2)
            for value in (norm.weight, norm.bias, reduction.weight)
        )
        x = patches.permute(0, 1, 2, 4, 5, 3).flatten(3)
        return F.linear(F.layer_norm(x, x.shape[-1:], gain, bias, norm.eps), weight)
    out: Tensor = reduction(norm(patches.flatten(3)))
    return out


def _is_plain(layer: Any) -> bool:
    """Whether calling it is its function of its own weights and nothing else."""
    hooks = layer._forward_hooks or layer._forward_pre_hooks
    hooks = hooks or layer._backward_hooks or layer._backward_pre_hooks
    return (
        type(layer) in (nn.LayerNorm, nn.Linear)
        and type(layer.weight) is nn.Parameter
        and not hooks
    )
