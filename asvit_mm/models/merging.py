"""Patch merging: patches of tokens, a norm over each, and a linear layer; or all of it as one convolution.

Token maps are (B, H, W, C). Source: As-ViT (arXiv 2202.11921) and its published search code.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..tokens import merge_padding
from .chunked.merging import merge
from .linear import Linear
from .norms import build_norm
from .plain import is_watched


class PatchMerging(nn.Module):
    """Tokens (B, H, W, C) to (B, H / 2, W / 2, out_width); odd sides by ``tokens.MERGE_ROUNDINGS``.

    Patches of kernel x kernel tokens at stride 2, channel-major as ``torch.nn.Unfold`` orders them,
    then a norm over kernel * kernel * C and a linear layer without bias. Where no gradient is wanted
    the same is computed as one convolution (:func:`merging_filters`).
    """

    def __init__(
        self,
        width: int,
        out_width: int,
        kernel: int,
        norm_cfg: dict[str, Any] | None,
        rounding: str = 'up',
    ) -> None:
        super().__init__()
        self.kernel, self.rounding = kernel, rounding
        self.norm = build_norm(norm_cfg, kernel * kernel * width)
        self.reduction = Linear(kernel * kernel * width, out_width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = pad_for_merging(x, self.kernel, self.rounding)
        plain = torch.is_grad_enabled() or torch.is_autocast_enabled(x.device.type)
        if self.can_convolve and not plain:
            norm = self.norm
            assert isinstance(norm, nn.LayerNorm)
            filters, bias = merging_filters(norm, self.reduction.weight, self.kernel)
            products = F.conv2d(x.permute(0, 3, 1, 2), filters, stride=2).permute(0, 2, 3, 1)
            return products * inverse_deviation(x, self.kernel, norm.eps) + bias
        if self.can_convolve:
            norm = self.norm
            assert isinstance(norm, nn.LayerNorm)
            return merge(x, (norm.weight, norm.bias), self.reduction.weight, self.kernel, norm.eps)
        patches = x.unfold(1, self.kernel, 2).unfold(2, self.kernel, 2)  # (B, h, w, C, K, K)
        return self.reduction(self.norm(patches.flatten(3)))

    @property
    def can_convolve(self) -> bool:
        """Whether norm and linear layer are the plain ones that :func:`merging_filters` knows.

        Not in half precision, whose products need the norm before them, nor where something has taken the
        linear layer's place or watches it (adapters, quantization, hooks).
        """
        norm, reduction = self.norm, self.reduction
        return (
            type(norm) is nn.LayerNorm
            and norm.weight is not None
            and norm.bias is not None
            and type(reduction) is Linear
            and not (is_watched(norm) or is_watched(reduction))
            and reduction.weight.dtype in (torch.float32, torch.float64)
        )


def pad_for_merging(x: Tensor, kernel: int, rounding: str = 'up') -> Tensor:
    """Zeros around tokens (B, H, W, C), such that patches of ``kernel`` tokens at stride 2 tile them."""
    top, bottom = merge_padding(x.shape[1], kernel, rounding)
    left, right = merge_padding(x.shape[2], kernel, rounding)
    return F.pad(x, (0, 0, left, right, top, bottom))


def merging_filters(norm: nn.LayerNorm, weight: Tensor, kernel: int) -> tuple[Tensor, Tensor]:
    """Filters (out, C, kernel, kernel) and bias (out,) that make a merging one convolution.

    With u a patch, linear(norm(u)) = V (u - mean(u)) / deviation(u) + W b for V = W diag(g), g and b being
    the norm's weight and bias. Taking each row's mean from V takes mean(u) from u: only the
    deviation (:func:`inverse_deviation`) is left to compute from the patches.
    """
    scaled = weight * norm.weight
    filters = (scaled - scaled.mean(1, keepdim=True)).unflatten(1, (-1, kernel, kernel))
    return filters.contiguous(memory_format=torch.channels_last), weight @ norm.bias


def inverse_deviation(x: Tensor, kernel: int, eps: float) -> Tensor:
    """1 / sqrt(variance + eps) of each patch of padded tokens (B, H, W, C): (B, h, w, 1).

    A patch's variance is the mean of its tokens' variances plus the variance of its tokens' means, taken
    from the image's mean so that a common offset costs no digits.
    """
    variance, mean = torch.var_mean(x, dim=3, correction=0)
    mean = mean - mean.mean((1, 2), keepdim=True)
    moments = torch.stack([mean, mean.square() + variance], 1)  # of every token: (B, 2, H, W)
    mean, square = F.avg_pool2d(moments, kernel, stride=2).unsqueeze(-1).unbind(1)
    return ((square - mean.square()).clamp_min(0) + eps).rsqrt()
