"""What layers in chunks share: how many rows a chunk has, the norm before it, sums over chunks, gradients."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..linear import product, weight_gradient
from ..norms import Norm
from ..plain import is_plain

# Numbers of what is widest in a chunk, and rows of it, at least, for a matrix product at full speed.
SIZE, ROWS = 1 << 19, 512


class Sums(dict[int, Tensor]):
    """Sums by name of what the chunks give."""

    def add(self, name: int, value: Tensor) -> None:
        if name in self:
            self[name] += value
        else:
            self[name] = value

    def add_weight(self, name: int, grad: Tensor, inputs: Tensor) -> None:
        """Of the weight of a linear layer, by what arrives there and what went in."""
        self[name] = weight_gradient(grad, inputs, self.get(name))

    def add_first(
        self,
        grad: Tensor,
        rows: Tensor,
        normed: tuple[Tensor, Tensor | None, Tensor | None],
        norm: Norm,
        weight: Tensor,
        needs: Sequence[bool],
    ) -> Tensor | None:
        """Back through a chunk's norm and first linear layer, rows (N, C) being what went in.

        Sums 1 to 4, of the norm's and the layer's weight and bias, grow; returned is the rows' gradient, if
        it is needed. ``normed`` is what :func:`normed` gave, ``needs`` as autograd numbers them.
        """
        if needs[3]:
            self.add_weight(3, grad, normed[0])
        if needs[4]:
            self.add(4, grad.sum(0))
        if not any(needs[:3]):
            return None
        grad = product(grad, weight.t())
        if norm[0] is None:
            return grad
        of_rows, *of_norm = torch.ops.aten.native_layer_norm_backward(
            grad, rows, norm[0].shape, *normed[1:], *norm, list(needs[:3])
        )
        for name, value in enumerate(of_norm, 1):
            if needs[name]:
                self.add(name, value)
        return of_rows


def chunks(rows: Tensor, width: int) -> Sequence[Tensor]:
    """Rows (N, C) in contiguous views of about equally many, for layers of which one is ``width`` wide."""
    count = max(1, round(len(rows) / rows_at_once(width)))
    return rows.contiguous().split(-(-len(rows) // count))


def rows_at_once(width: int) -> int:
    """Rows of a chunk, for layers of which one is ``width`` wide."""
    return max(ROWS, SIZE // width)


def joined(parts: list[Tensor]) -> Tensor:
    """What the chunks gave, one after the other."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def normed(
    rows: Tensor, scale: Tensor | None, shift: Tensor | None, eps: float
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Rows (N, C) through a norm, if there is one; their means and inverse deviations, (N, 1)."""
    if scale is None:
        return rows, None, None
    return torch.native_layer_norm(rows, scale.shape, scale, shift, eps)


def norm_plainly(x: Tensor, scale: Tensor | None, shift: Tensor | None, eps: float) -> Tensor:
    """The norm, if there is one, in operations that can be differentiated."""
    return x if scale is None else F.layer_norm(x, scale.shape, scale, shift, eps)


def norm_fits(norm: Norm, x: Tensor) -> bool:
    """Whether a norm over the last axis of ``x`` is none, or one of plain tensors that fit."""
    scale, shift = norm
    if scale is None or shift is None:
        return scale is shift
    return is_plain(scale, shift) and scale.shape == shift.shape == x.shape[-1:]


def wants_gradient(*tensors: Tensor | None) -> bool:
    """Whether a gradient of one of these is wanted."""
    return torch.is_grad_enabled() and any(one is not None and one.requires_grad for one in tensors)


def all_plain(*tensors: Tensor | None) -> bool:
    """:func:`~asvit_mm.models.plain.is_plain` of those that there are."""
    return is_plain(*(one for one in tensors if one is not None))


def gradients(
    function: Callable[..., Tensor],
    inputs: Sequence[Any],
    needs: Sequence[bool],
    grad: Tensor,
) -> tuple[Tensor | None, ...]:
    """Gradients of a function of plain operations, which can be differentiated and batched."""
    with torch.enable_grad():
        # Nodes of their own, so that no path leads from one input to another and no hook is called here.
        own: list[Any] = [one if one is None else one.view_as(one) for one in inputs]
        out = function(*own)
    wanted = [one for one, needed in zip(own, needs, strict=False) if needed]
    found = iter(torch.autograd.grad(out, wanted, grad, create_graph=torch.is_grad_enabled()))
    return tuple(next(found) if needed else None for needed in needs[: len(inputs)])
