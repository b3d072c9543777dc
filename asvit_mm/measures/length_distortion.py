"""Expected length distortion L^E of a network along a circle of images (As-ViT, section 3)."""

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..models import AsViT
from .jvp_attention import DualAttention, scores_bytes
from .memory import forward_bytes, in_chunks, window_tokens
from .probe import ImageCircle, eval_mode
from .score import Score


def length_distortion(
    model: AsViT, circle: ImageCircle, *, memory_limit: int | None = None
) -> Score:
    """L^E of one network: the sum over the angles of ||dz/dt||; higher is better.

    Args:
        model: the network, with identity norms; it is not changed.
        circle: the images h(t); z are the model's ``pooled_tokens``.
        memory_limit: bytes that activations may take on top of the model, see :mod:`.memory`; None: no limit.

    Raises:
        InputError: the limit is too small for a single image.
    """
    parameter, arch = next(model.parameters()), model.architecture
    itemsize = parameter.element_size()
    tokens = window_tokens(arch, circle.img_size)
    circle_bytes = circle.num_angles * len(circle.basis) * (2 * itemsize + circle.basis.itemsize)
    total = in_chunks(
        lambda chunk_size: output_derivatives(model, circle, chunk_size).norm(dim=1).sum().item(),
        circle.num_angles,
        image_bytes=2 * forward_bytes(arch, circle.img_size, itemsize),
        fixed_bytes=circle_bytes + scores_bytes(tokens, itemsize, parameter.device),
        memory_limit=memory_limit,
    )
    return Score.finite(total, 'the derivative along the circle has NaN or infinite entries')


def output_derivatives(model: AsViT, circle: ImageCircle, chunk_size: int | None = None) -> Tensor:
    """Derivative dz/dt (num_angles, C4) of the output along the circle, float64.

    One Jacobian-vector product J h'(t) in forward mode gives all output coordinates at all angles.

    Args:
        chunk_size: images per forward pass; None: all.
    """
    size = chunk_size or circle.num_angles
    chunks = [x.split(size) for x in circle.images(next(model.parameters()))]
    derivatives = []
    with eval_mode(model), torch.no_grad(), DualAttention():
        for images, directions in zip(*chunks, strict=True):
            with forward_ad.dual_level():
                output = model.pooled_tokens(forward_ad.make_dual(images, directions))
                derivatives.append(forward_ad.unpack_dual(output).tangent.double())
    return torch.cat(derivatives)
