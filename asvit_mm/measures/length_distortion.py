"""Expected length distortion L^E of a network on a circle of images (As-ViT, section 3)."""

import math

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..models import AsViT
from ..tokens import as_pair
from .calling import evaluating
from .jvp_attention import DualAttention, explicit_attention, scores_bytes
from .memory import forward_bytes, images_at_a_time, until_it_fits, window_tokens
from .score import Score

NUM_ANGLES = 10


def curve_basis(
    img_size: int | tuple[int, int], generator: torch.Generator, channels: int = 3
) -> Tensor:
    """Orthonormal basis U (D, 2) of a random plane of images, D = channels * height * width, float64.

    The left singular vectors of a Gaussian D x 2 matrix, as the published code draws it.
    """
    height, width = as_pair(img_size)
    gaussian = torch.randn(channels * height * width, 2, generator=generator, dtype=torch.float64)
    return torch.linalg.svd(gaussian, full_matrices=False)[0]


def curve_images(
    basis: Tensor, img_size: int | tuple[int, int], num_angles: int, like: Tensor
) -> tuple[Tensor, Tensor]:
    """Images h(t) = U [cos t, sin t] of the circle and their directions h'(t).

    Args:
        basis: U (D, 2).
        img_size: pixels of the images, channels * height * width = D.
        num_angles: angles from 0 to 2 pi, both ends included.
        like: gives the device and the precision of the result; the circle itself is computed in float64.

    Returns:
        Both (num_angles, channels, height, width).
    """
    height, width = as_pair(img_size)
    angles = torch.linspace(0, 2 * math.pi, num_angles, dtype=torch.float64)
    circle = torch.stack([angles.cos(), angles.sin()])
    tangent = torch.stack([-angles.sin(), angles.cos()])
    basis = basis.cpu().double()
    images, directions = (
        (basis @ curve).T.reshape(num_angles, -1, height, width).to(like)
        for curve in (circle, tangent)
    )
    return images, directions


def output_derivatives(
    model: AsViT,
    basis: Tensor,
    img_size: int | tuple[int, int],
    num_angles: int = NUM_ANGLES,
    at_a_time: int | None = None,
) -> Tensor:
    """Derivative of the output along the circle of images h(t) = U [cos t, sin t].

    One forward-mode product J h'(t) gives every output coordinate at every angle at once.

    Args:
        model: the network; the length distortion wants one with identity norms.
        basis: U (D, 2).
        img_size: pixels of the images, channels * height * width = D.
        num_angles: angles from 0 to 2 pi, both ends included.
        at_a_time: angles in one pass; None: all.

    Returns:
        dz/dt (num_angles, C4), float64, with z the model's ``pooled_tokens``.
    """
    curve = curve_images(basis, img_size, num_angles, next(model.parameters()))
    parts = [x.split(at_a_time or num_angles) for x in curve]
    derivatives = []
    with evaluating(model), torch.no_grad(), explicit_attention(), DualAttention():
        for images, directions in zip(*parts, strict=True):
            with forward_ad.dual_level():
                output = model.pooled_tokens(forward_ad.make_dual(images, directions))
                derivatives.append(forward_ad.unpack_dual(output).tangent.double())
    return torch.cat(derivatives)


def output_speeds(
    model: AsViT,
    basis: Tensor,
    img_size: int | tuple[int, int],
    num_angles: int = NUM_ANGLES,
    at_a_time: int | None = None,
) -> Tensor:
    """Speeds ||dz/dt|| (num_angles,), float64: norms of what :func:`output_derivatives` gives."""
    return output_derivatives(model, basis, img_size, num_angles, at_a_time).norm(dim=1)


def length_distortion(
    model: AsViT,
    basis: Tensor,
    img_size: int | tuple[int, int],
    num_angles: int = NUM_ANGLES,
    *,
    memory_limit: int | None = None,
) -> Score:
    """L^E of one network: the sum over the angles of ||dz/dt||; higher is better.

    Takes what :func:`output_speeds` takes; the model is left as it was.

    Args:
        memory_limit: bytes that activations may take on top of the model; None: no limit. More angles
            than fit are taken in several passes.

    Raises:
        InputError: a limit in which one angle does not fit.
    """
    parameter, arch = next(model.parameters()), model.architecture
    itemsize = parameter.element_size()
    at_a_time = images_at_a_time(
        num_angles,
        each=2 * forward_bytes(arch, img_size, itemsize),
        limit=memory_limit,
        fixed=scores_bytes(window_tokens(arch, img_size), itemsize, parameter.device)
        + num_angles * len(basis) * (2 * itemsize + basis.itemsize),  # the curve itself
    )
    total = until_it_fits(
        lambda n: output_speeds(model, basis, img_size, num_angles, n).sum().item(), at_a_time
    )
    if not math.isfinite(total):
        return Score.bad('the derivative along the curve has NaN or infinite entries')
    return Score(total)
