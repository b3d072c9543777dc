"""GELU of what a chunk computes, through this package's own kernel (gelu.cpp) or, without it, torch's.

The backward pass of a chunk has only what went into the activation and needs both GELU and its derivative,
which torch computes one after the other. Values differ by rounding only. Figures: docs/performance.md.
"""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..ops.native import call, library

SOURCE = Path(__file__).with_name('gelu.cpp')


def has_kernel() -> bool:
    """Whether the kernel is at hand, on a CPU of registers that are wide enough to gain by it."""
    return torch.backends.cpu.get_cpu_capability() != 'DEFAULT' and library(SOURCE) is not None


def gelu(x: Tensor) -> Tensor:
    """GELU(x) of plain contiguous numbers of any shape; no gradient."""
    if not has_kernel():
        return F.gelu(x)
    out = torch.empty_like(x)
    call(SOURCE, 'gelu', x, out, x.numel())
    return out


def gelu_backward_(x: Tensor, grad: Tensor) -> Tensor:
    """GELU(x); ``grad``, that of it, becomes that of x. Plain contiguous numbers, as many in both."""
    if not has_kernel():
        torch.ops.aten.gelu_backward.grad_input(grad, x, grad_input=grad)
        return F.gelu(x)
    out = torch.empty_like(x)
    call(SOURCE, 'gelu_backward', x, grad, out, x.numel())
    return out
