"""Extrinsic curvature and Gauss-map length of a network's output along a circle of images.

Sources: Poole et al., arXiv 1606.05340, section 3; As-ViT, arXiv 2202.11921, section 3.
"""

import math

import torch
from torch import Tensor
from torch.func import jvp

from ..arch import Architecture
from ..cost import stage_macs
from ..errors import InputError
from ..models import AsViT
from .calling import evaluating, has_norms
from .jvp_attention import explicit_attention
from .length_distortion import NUM_ANGLES, curve_images
from .memory import images_at_a_time, until_it_fits
from .score import Score

# Peak bytes of a second derivative over the bytes of the largest block's scores and features (see
# second_order_bytes): value, two first derivatives and the second one, before and after the softmax, and
# what is computed between them; chosen above the resident memory seen for large and small windows.
_COPIES = 16


def extrinsic_curvature(
    model: AsViT,
    basis: Tensor,
    img_size: int | tuple[int, int],
    num_angles: int = NUM_ANGLES,
    *,
    memory_limit: int | None = None,
) -> Score:
    """kappa_E of one network: how much its output bends, summed over the angles; higher is better.

    With v = dz/dt and a = d2z/dt2, each angle adds (v.v)^(-3/2) sqrt((v.v)(a.a) - (v.a)^2), one over the
    radius of the circle that fits the output's curve there. Takes what :func:`curve_derivatives` takes.

    Args:
        memory_limit: bytes that activations may take, by an estimate; None: no limit. More angles than
            fit are taken in several passes.

    Raises:
        InputError: the network has norms, or one angle does not fit the limit.
    """
    speed, turning = _speed_and_turning(model, basis, img_size, num_angles, memory_limit)
    return _total(speed, turning / speed.square())


def gauss_map_length(
    model: AsViT,
    basis: Tensor,
    img_size: int | tuple[int, int],
    num_angles: int = NUM_ANGLES,
    *,
    memory_limit: int | None = None,
) -> Score:
    """L^G of one network: how fast its output's direction turns, summed over the angles; higher is better.

    With v = dz/dt, each angle adds the norm of d(v / ||v||)/dt, which does not change where the output is
    scaled. Takes and raises what :func:`extrinsic_curvature` does.
    """
    speed, turning = _speed_and_turning(model, basis, img_size, num_angles, memory_limit)
    return _total(speed, turning / speed)


def curve_derivatives(
    model: AsViT,
    basis: Tensor,
    img_size: int | tuple[int, int],
    num_angles: int = NUM_ANGLES,
    at_a_time: int | None = None,
) -> tuple[Tensor, Tensor]:
    """First and second derivative of the output along the circle of images h(t) = U [cos t, sin t].

    Forward mode within forward mode gives both at all angles and output coordinates at once. The model is
    left as it was.

    Args:
        model: the network, with identity norms (``norm_cfg=None``).
        basis: U (D, 2), see :func:`~asvit_mm.measures.curve_basis`.
        img_size: pixels of the images, channels * height * width = D.
        num_angles: angles from 0 to 2 pi, both ends included.
        at_a_time: angles in one pass; None: all.

    Returns:
        dz/dt and d2z/dt2, float64 (num_angles, C4), with z the model's ``pooled_tokens``.

    Raises:
        InputError: the network has norms.
    """
    if has_norms(model):
        # Forward mode within forward mode takes the deviation that a layer norm divides by as a constant.
        raise InputError(
            'the second derivative is not right through layer norms: build the network with norm_cfg=None'
        )
    curve = curve_images(basis, img_size, num_angles, next(model.parameters()))
    parts = [x.split(at_a_time or num_angles) for x in curve]
    with torch.no_grad(), explicit_attention(), evaluating(model):
        pairs = [_derivatives(model, *part) for part in zip(*parts, strict=True)]
    first, second = (torch.cat(values).double() for values in zip(*pairs, strict=True))
    return first, second


def second_order_bytes(arch: Architecture, img_size: int | tuple[int, int], itemsize: int) -> int:
    """Bytes of activations at the peak of one image's second derivative, by an estimate.

    What counts is the largest block: its attention scores and what its linear layers read and write.
    """
    macs = stage_macs(arch, img_size)
    largest = max(
        stage.attention // (2 * depth * head_dim) + stage.linear // (depth * width)
        for stage, depth, head_dim, width in zip(
            macs, arch.depths, arch.head_dims, arch.widths, strict=True
        )
    )
    return _COPIES * largest * itemsize


def _derivatives(model: AsViT, images: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    zero = images.new_zeros(())
    one = torch.ones_like(zero)

    def output(offset: Tensor) -> Tensor:
        # h(t + s) = h(t) cos s + h'(t) sin s, at every angle t of the batch
        return model.pooled_tokens(images * offset.cos() + directions * offset.sin())

    def velocity(offset: Tensor) -> Tensor:
        return jvp(output, (offset,), (one,))[1]

    return jvp(velocity, (zero,), (one,))


def _speed_and_turning(
    model: AsViT,
    basis: Tensor,
    img_size: int | tuple[int, int],
    num_angles: int,
    memory_limit: int | None,
) -> tuple[Tensor, Tensor]:
    """||v|| and the norm of what of a is orthogonal to v, both (num_angles,)."""
    itemsize = next(model.parameters()).element_size()
    each = second_order_bytes(model.architecture, img_size, itemsize)
    v, a = until_it_fits(
        lambda n: curve_derivatives(model, basis, img_size, num_angles, n),
        images_at_a_time(num_angles, each, memory_limit),
    )
    along = (v * a).sum(1, keepdim=True) / v.square().sum(1, keepdim=True)
    # sqrt((v.v)(a.a) - (v.a)^2) is ||v|| times this norm, which loses no digits where a is along v.
    return v.norm(dim=1), (a - along * v).norm(dim=1)


def _total(speed: Tensor, terms: Tensor) -> Score:
    if not speed.isfinite().all():
        return Score.bad('the derivative along the curve has NaN or infinite entries')
    if not speed.all():
        return Score.bad('the output does not move along the curve, so it has no direction')
    total = terms.sum().item()
    if not math.isfinite(total):
        return Score.bad('the second derivative along the curve has NaN or infinite entries')
    return Score(total)
