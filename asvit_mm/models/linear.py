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
    """``torch.nn.Linear`` through :func:`linear`.

    Tools that replace layers by exact type want this one named, ``torch.ao.quantization.quantize_dynamic``
    in its ``mapping`` for instance; those that ask ``isinstance`` (adapters) do not.
    """

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b: (..., in), (out, in), (out,) to (..., out); differentiable any number of times."""
    if not onednn_takes(x, weight, bias):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled():
        return _OneDNNLinear.apply(x, weight, bias)
    return _product(x, weight, bias)


def onednn_takes(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Whether :func:`linear` uses oneDNN: plain float32 tensors on a CPU, and nobody looks.

    What is traced, compiled, transformed (torch.func, forward mode, autocast), counted or overridden
    (modes, such as torch's FLOP counter, and tensor subclasses) sees the plain operation, which all of
    these know. So do shapes that do not fit, which it refuses by name.
    """
    tensors = (x, weight) if bias is None else (x, weight, bias)
    return (
        not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and all(type(t) in (Tensor, nn.Parameter) for t in tensors)
        and all(t.dtype == torch.float32 and t.device.type == 'cpu' for t in tensors)
        and x.ndim > 1
        and x.shape[-1:] == weight.shape[1:]
        and (bias is None or bias.shape == weight.shape[:1])
        and x.numel() * weight.shape[0] >= SMALLEST
        and not torch.is_autocast_enabled('cpu')
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._len_torch_dispatch_stack()
        and not torch._C._len_torch_function_stack()
        and forward_ad._current_level < 0
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
    )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    # oneDNN reads a bias as if it were contiguous.
    bias = None if bias is None else bias.contiguous()
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, 'none', [], '')


class _OneDNNLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # What no gradient asks for is not kept: each of the two is for the other's.
        ctx.save_for_backward(
            x if ctx.needs_input_grad[1] else None, weight if ctx.needs_input_grad[0] else None
        )
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous()
        rows = grad.reshape(-1, grad.shape[-1])
        of_x = linear(grad, weight.t()) if ctx.needs_input_grad[0] else None
        of_weight = None
        if ctx.needs_input_grad[1]:
            inputs = x.reshape(-1, x.shape[-1])
            few = len(rows) <= FEW_ROWS
            of_weight = linear(rows.t(), inputs.t()) if few else rows.t() @ inputs
        return of_x, of_weight, rows.sum(0) if ctx.needs_input_grad[2] else None
