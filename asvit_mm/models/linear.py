"""Linear layer that takes oneDNN's matrix product on a CPU, where torch's own goes through another library.

At the shapes of a vision transformer oneDNN's product of float32 matrices is faster than the one behind
``torch.nn.functional.linear``, forward and backward (docs/performance.md). Values differ by rounding only.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .plain import is_plain, known

# Multiply-adds below which the calls cost more than the product gains.
SMALLEST: float = 1 << 25
# Rows of a batch up to which the weight's gradient is the faster of the two as well, though rows are laid out
# anew for it: none where oneDNN has no wider instructions than the other library.
FEW_ROWS = 2048 if torch.backends.cpu.get_cpu_capability() == 'AVX512' else 0


@known
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
    return product(x, weight, bias)


def onednn_takes(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Whether :func:`linear` uses oneDNN: for plain tensors of shapes that fit, if it is worth it.

    Shapes that do not fit are left to the plain operation, which refuses them by name.
    """
    tensors = (x, weight) if bias is None else (x, weight, bias)
    return (
        is_plain(*tensors)
        and x.ndim > 1
        and x.shape[-1:] == weight.shape[1:]
        and (bias is None or bias.shape == weight.shape[:1])
        and x.numel() * weight.shape[0] >= SMALLEST
        and onednn_is_on()
    )


def onednn_is_on() -> bool:
    """Whether torch has oneDNN, and the user has not switched it off."""
    return torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, gelu: bool = False) -> Tensor:
    """x W^T + b by oneDNN, through GELU or not, of tensors that :func:`onednn_takes`; no gradient."""
    # oneDNN reads a bias as if it were contiguous.
    bias = None if bias is None else bias.contiguous()
    return torch.ops.mkldnn._linear_pointwise(
        x, weight, bias, 'gelu' if gelu else 'none', [], 'none' if gelu else ''
    )


def weight_gradient(grad: Tensor, inputs: Tensor, to: Tensor | None = None) -> Tensor:
    """Gradient (out, in) of a linear layer's weight: rows (N, out) that arrive, (N, in) that went in.

    With ``to``, (out, in), the gradient is added to it in place, and it is returned.
    """
    if len(grad) > FEW_ROWS:
        return grad.t() @ inputs if to is None else to.addmm_(grad.t(), inputs)
    found = linear(grad.t(), inputs.t())
    return found if to is None else to.add_(found)


class _OneDNNLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # What no gradient asks for is not kept: each of the two is for the other's.
        ctx.save_for_backward(
            x if ctx.needs_input_grad[1] else None, weight if ctx.needs_input_grad[0] else None
        )
        return product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous()
        rows = grad.reshape(-1, grad.shape[-1])
        of_x = linear(grad, weight.t()) if ctx.needs_input_grad[0] else None
        of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = weight_gradient(rows, x.reshape(-1, x.shape[-1]))
        return of_x, of_weight, rows.sum(0) if ctx.needs_input_grad[2] else None
