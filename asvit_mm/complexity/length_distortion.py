"""Expected length distortion L^E of a network on a circle of images (As-ViT, section 3)."""

import math

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..models import AsViT
from ..tokens import as_pair
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


def output_speeds(
    model: AsViT, basis: Tensor, img_size: int | tuple[int, int], num_angles: int = NUM_ANGLES
) -> Tensor:
    """Speeds of the output along the circle of images h(t) = U [cos t, sin t].

    One forward-mode product J h'(t) gives the derivative of every output coordinate at every angle at once.

    Args:
        model: the network; the length distortion wants one with identity norms.
        basis: U (D, 2).
        img_size: pixels of the images, channels * height * width = D.
        num_angles: angles from 0 to 2 pi, both ends included.

    Returns:
        ||dz/dt|| (num_angles,) with z the model's ``pooled_tokens``.
    """
    height, width = as_pair(img_size)
    parameter = next(model.parameters())
    angles = torch.linspace(0, 2 * math.pi, num_angles, dtype=torch.float64)
    circle = torch.stack([angles.cos(), angles.sin()])
    tangent = torch.stack([-angles.sin(), angles.cos()])
    basis = basis.cpu().double()
    images, directions = (
        (basis @ curve).T.reshape(num_angles, -1, height, width).to(parameter)
        for curve in (circle, tangent)
    )
    was_training = model.training
    model.eval()
    try:
        # No fused attention kernel has a forward-mode derivative; the explicit form has.
        with torch.no_grad(), forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):
            output = model.pooled_tokens(forward_ad.make_dual(images, directions))
            speed = forward_ad.unpack_dual(output).tangent
    finally:
        model.train(was_training)
    return speed.double().norm(dim=1)


def length_distortion(
    model: AsViT, basis: Tensor, img_size: int | tuple[int, int], num_angles: int = NUM_ANGLES
) -> Score:
    """L^E of one network: the sum over the angles of ||dz/dt||; higher is better.

    Takes what :func:`output_speeds` takes; the model is left as it was.
    """
    total = output_speeds(model, basis, img_size, num_angles).sum().item()
    if not math.isfinite(total):
        return Score.bad('the derivative along the curve has NaN or infinite entries')
    return Score(total)
