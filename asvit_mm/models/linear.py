"""Linear layer that takes oneDNN's matrix product on a CPU, where torch's own goes through another library.

At the shapes of a vision transformer oneDNN's product of float32 matrices is faster than the one behind
``torch.nn.functional.linear``, forward and backward (docs/performance.md). Values differ by rounding only.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F

# Multiply-adds below which the calls cost more than the product gains.
SMALLEST: float = 1 << 25
# Rows of a batch up to which the weight's gradient is the faster of the two as well.
FEW_ROWS = 2048


class Linear(nn.Linear):
    """``torch.nn.Linear`` through :func:`linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b: (..., in), (out, in), (out,) to (..., out); differentiable any number of times."""
    if not onednn_takes(x, weight):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled():
        return _OneDNNLinear.apply(x, weight, bias)
    return _product(x, weight, bias)


def onednn_takes(x: Tensor, weight: Tensor) -> bool:
    """Whether :func:`linear` uses oneDNN: float32 on a CPU, and nobody looks at the operations.

    What is traced, compiled, transformed (torch.func, forward mode, autocast) or counted (dispatch
    modes, such as torch's FLOP counter) sees the plain operation, which all of these know.
    """
    return (
        not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and x.device.type == 'cpu'
        and x.dtype == weight.dtype == torch.float32
        and x.ndim > 1
        and x.numel() * weight.shape[0] >= SMALLEST
        and not torch.is_autocast_enabled('cpu')
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._len_torch_dispatch_stack()
        and forward_ad._current_level < 0
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
    )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, 'none', [], '')


class _OneDNNLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous()
        rows = grad.flatten(0, -2)
        inputs = x.flatten(0, -2)
        of_x = linear(grad, weight.t()) if ctx.needs_input_grad[0] else None
        of_weight = None
        if ctx.needs_input_grad[1]:
            few = len(rows) <= FEW_ROWS
            of_weight = linear(rows.t(), inputs.t()) if few else rows.t() @ inputs
        return of_x, of_weight, rows.sum(0) if ctx.needs_input_grad[2] else None
