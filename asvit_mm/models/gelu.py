"""GELU of what a chunk computes, through this package's own kernel (gelu.cpp) or, without it, torch's.

Torch's takes three times as long on a CPU, and the backward pass, which has only what went into the
activation, needs both it and its derivative. Values differ by rounding only. Figures: docs/performance.md.
"""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from .native import call, library

SOURCE = Path(__file__).with_name('gelu.cpp')


def gelu(x: Tensor) -> Tensor:
    """GELU(x) of plain contiguous numbers of any shape; no gradient."""
    if library(SOURCE) is None:
        return F.gelu(x)
    out = torch.empty_like(x)
    call(SOURCE, 'gelu', x, out, x.numel())
    return out


def gelu_backward_(x: Tensor, grad: Tensor) -> Tensor:
    """GELU(x); ``grad``, that of it, becomes that of x. Plain contiguous numbers, as many in both."""
    if library(SOURCE) is None:
        torch.ops.aten.gelu_backward.grad_input(grad, x, grad_input=grad)
        return F.gelu(x)
    out = torch.empty_like(x)
    call(SOURCE, 'gelu_backward', x, grad, out, x.numel())
    return out
