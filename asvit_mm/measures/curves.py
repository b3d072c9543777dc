"""Length, curvature and Gauss-map length of the curve that a network makes of a circle of images.

Sources: Poole et al., arXiv 1606.05340, section 3; As-ViT, arXiv 2202.11921, section 3. The curve z(t) is the
network's ``pooled_tokens`` of the images h(t). All three measures want a network with identity norms.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..errors import InputError
from .any_model import has_norms
from .jvp_attention import DualAttention, scores_bytes
from .memory import activation_bytes, forward_bytes, in_chunks, second_order_bytes
from .probe import ImageCircle, Probed, eval_mode
from .score import Score


def length_distortion(
    model: Probed, circle: ImageCircle, *, memory_limit: int | None = None
) -> Score:
    """L^E of one network: the sum over the angles of ||dz/dt||; higher is better.

    Args:
        model: the network, with identity norms; it is not changed.
        circle: the images h(t).
        memory_limit: bytes that activations may take on top of the model, see :mod:`.memory`; None: no limit.

    Raises:
        InputError: the limit is too small for a single image.
    """
    parameter = next(model.parameters())
    itemsize = parameter.element_size()
    circle_bytes = circle.num_angles * len(circle.basis) * (2 * itemsize + circle.basis.itemsize)
    total = in_chunks(
        lambda chunk_size: output_derivatives(model, circle, chunk_size).norm(dim=1).sum().item(),
        circle.num_angles,
        image_bytes=2 * activation_bytes(forward_bytes, model, circle.img_size, itemsize),
        fixed_bytes=circle_bytes + scores_bytes(model, circle.img_size, parameter),
        memory_limit=memory_limit,
    )
    return Score.finite(total, 'the derivative along the circle has NaN or infinite entries')


def extrinsic_curvature(
    model: Probed, circle: ImageCircle, *, memory_limit: int | None = None
) -> Score:
    """kappa_E of one network, the curvature of its output summed over the angles; higher is better.

    With v = dz/dt and a = d2z/dt2, each angle contributes (v.v)^(-3/2) sqrt((v.v)(a.a) - (v.a)^2), the
    reciprocal radius of the osculating circle. Arguments are those of :func:`length_distortion`.

    Raises:
        InputError: the network has norms, or the limit is too small for a single image.
    """
    return curvatures(model, circle, memory_limit=memory_limit)[0]


def gauss_map_length(
    model: Probed, circle: ImageCircle, *, memory_limit: int | None = None
) -> Score:
    """L^G of one network, how fast the direction of its output turns; higher is better.

    With v = dz/dt, each angle contributes the norm of d(v / ||v||)/dt, which is invariant to the scale of
    the output. Arguments and errors are those of :func:`extrinsic_curvature`.
    """
    return curvatures(model, circle, memory_limit=memory_limit)[1]


def curvatures(
    model: Probed, circle: ImageCircle, *, memory_limit: int | None = None
) -> tuple[Score, Score]:
    """:func:`extrinsic_curvature` and :func:`gauss_map_length` at the cost of one of them."""
    speed, normal = _speed_and_normal(model, circle, memory_limit)
    return _total(speed, normal / speed.square()), _total(speed, normal / speed)


def output_derivatives(model: Probed, circle: ImageCircle, chunk_size: int | None = None) -> Tensor:
    """Derivative dz/dt (num_angles, C4) of the output along the circle, float64.

    One Jacobian-vector product J h'(t) in forward mode gives all output coordinates at all angles.

    Args:
        chunk_size: images per forward pass; None: all.
    """
    derivatives = []
    with eval_mode(model), torch.no_grad(), DualAttention():
        for images, directions in _chunks(model, circle, chunk_size):
            with forward_ad.dual_level():
                output = model.pooled_tokens(forward_ad.make_dual(images, directions))
                derivatives.append(forward_ad.unpack_dual(output).tangent.double())
    return torch.cat(derivatives)


def curve_derivatives(
    model: Probed, circle: ImageCircle, chunk_size: int | None = None
) -> tuple[Tensor, Tensor]:
    """First and second derivative dz/dt, d2z/dt2 of the output along the circle, float64 (num_angles, C4).

    Nested forward mode gives both for all output coordinates at all angles.

    Raises:
        InputError: the network has norms.
    """
    if has_norms(model):
        # torch's nested forward mode treats the standard deviation in a layer norm as a constant.
        raise InputError(
            'second derivatives through layer norms are wrong: build the network with norm_cfg=None'
        )
    # No fused attention kernel has a second derivative in forward mode.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), eval_mode(model):
        pairs = [_two_derivatives(model, *chunk) for chunk in _chunks(model, circle, chunk_size)]
    first, second = (torch.cat(values).double() for values in zip(*pairs, strict=True))
    return first, second


def _two_derivatives(model: Probed, images: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    zero = images.new_zeros(())
    one = torch.ones_like(zero)

    def output(offset: Tensor) -> Tensor:
        # h(t + s) = h(t) cos s + h'(t) sin s, at every angle t of the batch
        return model.pooled_tokens(images * offset.cos() + directions * offset.sin())

    def velocity(offset: Tensor) -> Tensor:
        return jvp(output, (offset,), (one,))[1]

    return jvp(velocity, (zero,), (one,))


def _chunks(
    model: Probed, circle: ImageCircle, chunk_size: int | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Images h(t) and directions h'(t) of up to ``chunk_size`` angles at a time."""
    images, directions = circle.images(next(model.parameters()))
    size = chunk_size or circle.num_angles
    return zip(images.split(size), directions.split(size), strict=True)


def _speed_and_normal(
    model: Probed, circle: ImageCircle, memory_limit: int | None
) -> tuple[Tensor, Tensor]:
    """||v|| and the norm of the component of a orthogonal to v, both (num_angles,)."""
    itemsize = next(model.parameters()).element_size()
    v, a = in_chunks(
        lambda chunk_size: curve_derivatives(model, circle, chunk_size),
        circle.num_angles,
        image_bytes=activation_bytes(second_order_bytes, model, circle.img_size, itemsize),
        memory_limit=memory_limit,
    )
    along = (v * a).sum(1, keepdim=True) / v.square().sum(1, keepdim=True)
    # Equal to sqrt((v.v)(a.a) - (v.a)^2) / ||v||, without its cancellation where a is nearly parallel to v.
    return v.norm(dim=1), (a - along * v).norm(dim=1)


def _total(speed: Tensor, terms: Tensor) -> Score:
    if not speed.isfinite().all():
        return Score.bad('the derivative along the circle has NaN or infinite entries')
    if not speed.all():
        return Score.bad('the output is constant along the circle, so it has no direction')
    reason = 'the second derivative along the circle has NaN or infinite entries'
    return Score.finite(terms.sum().item(), reason)
