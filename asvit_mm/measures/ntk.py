"""NTK condition number of a network on a batch of images (As-ViT, section 3)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from ..models import AsViT
from ..models.asvit import MapNorm
from .calling import evaluating, pooled_tokens
from .memory import backward_bytes, images_at_a_time, until_it_fits
from .score import Score


def ntk_condition_number(model: AsViT, images: Tensor, *, memory_limit: int | None = None) -> Score:
    """Largest over smallest eigenvalue of the Gram matrix of per-image gradients; lower is better.

    Args:
        model: the network, with its norms.
        images: (B, 3, H, W), at least two.
        memory_limit: bytes that activations and gradients may take on top of the model; None: no limit. More
            images than fit are taken in several passes.

    Raises:
        InputError: fewer than two images, or a limit in which one image does not fit.
    """
    if len(images) < 2:
        raise InputError(f'{len(images)} image(s) have no NTK condition number: give at least two')
    gram = until_it_fits(
        lambda n: ntk_gram(model, images, n), _at_a_time(model, images, memory_limit)
    )
    if not gram.isfinite().all():
        return Score.bad('the gradients have NaN or infinite entries')
    eigenvalues = torch.linalg.eigvalsh(gram)
    smallest, largest = eigenvalues[0].item(), eigenvalues[-1].item()
    # Gradients are computed in the model's precision: what it cannot tell from 0 is 0.
    if smallest <= largest * len(images) * torch.finfo(images.dtype).eps:
        return Score.bad(
            'the Gram matrix is singular in this precision (are images of the batch identical?)'
        )
    return Score(largest / smallest)


def ntk_gram(model: AsViT, images: Tensor, at_a_time: int | None = None) -> Tensor:
    """Gram matrix (B, B), float64, of the gradients of sum(z_i) for each image i of ``images``.

    z is the model's ``pooled_tokens``; the gradients are with respect to every parameter named ``weight``.
    One backward pass for many images: images do not interact, so the gradient that arrives at a layer's
    output holds every image's own, and the layer's per-image weight gradient is a product of it and
    the layer's input. The model is left as it was.

    Args:
        at_a_time: images in one pass; None: all. With fewer, the gradients of all images are kept.
    """
    gram = torch.zeros(len(images), len(images), dtype=torch.float64, device=images.device)
    parts = images.split(at_a_time or len(images))
    kept: dict[nn.Module, list[Tensor]] = {}

    def watch(module: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        per_image, inputs = PER_IMAGE_GRADIENTS[type(module)], args[0].detach()
        if not output.requires_grad:  # the first layer: the graph begins at its output
            output = output.detach().requires_grad_()

        def add(grad: Tensor) -> None:
            gradients = kept.setdefault(module, [])
            gradients.append(per_image(module, inputs, grad).flatten(1))
            if len(gradients) == len(parts):
                _add_products(gram, torch.cat(kept.pop(module)))

        output.register_hook(add)
        return output

    handles = []
    with evaluating(model), torch.enable_grad():
        try:
            for name, module in model.named_modules():
                if module is model or next(module.parameters(recurse=False), None) is None:
                    continue
                if type(module) not in PER_IMAGE_GRADIENTS:
                    raise InputError(
                        f'the NTK knows no per-image gradient of {type(module).__name__} ({name}): '
                        'only those of linear layers, the embedding and LN norms'
                    )
                handles.append(module.register_forward_hook(watch))
            constants = {name: value.detach() for name, value in model.named_parameters()}
            for part in parts:
                pooled_tokens(model, constants, part).sum().backward()
        finally:
            for handle in handles:
                handle.remove()
    return gram


def _add_products(gram: Tensor, gradients: Tensor) -> None:
    """Add the products of all pairs of rows of (B, parameters) to (B, B), in the precision of the latter."""
    for columns in gradients.split(1 << 14, dim=1):
        columns = columns.to(gram.dtype)
        gram.addmm_(columns, columns.T)


def _at_a_time(model: AsViT, images: Tensor, memory_limit: int | None) -> int:
    size, itemsize = (images.shape[2], images.shape[3]), images.element_size()
    each = backward_bytes(model.architecture, size, itemsize)
    largest = max(parameter.numel() for parameter in model.parameters())
    # Two copies at once: of the pieces, and joined.
    fixed = 2 * len(images) * largest * itemsize
    if memory_limit is None or fixed + len(images) * each <= memory_limit:
        return len(images)
    fixed += len(images) * sum(parameter.numel() for parameter in model.parameters()) * itemsize
    return images_at_a_time(len(images), each, memory_limit, fixed)


def _linear_gradients(module: nn.Module, inputs: Tensor, grad: Tensor) -> Tensor:
    """(B, ..., in), (B, ..., out) to (B, out, in)."""
    return grad.flatten(1, -2).transpose(1, 2) @ inputs.flatten(1, -2)


def _conv_gradients(module: nn.Module, inputs: Tensor, grad: Tensor) -> Tensor:
    """(B, in, H, W), (B, out, h, w) to (B, out, in * kernel * kernel); the caller has padded."""
    assert isinstance(module, nn.Conv2d)
    patches = F.unfold(inputs, module.kernel_size, module.dilation, stride=module.stride)
    return grad.flatten(2) @ patches.transpose(1, 2)


def _norm_gradients(module: nn.Module, inputs: Tensor, grad: Tensor) -> Tensor:
    """(B, ..., C), (B, ..., C) to (B, C)."""
    assert isinstance(module, nn.LayerNorm)
    normalised = F.layer_norm(inputs, module.normalized_shape, eps=module.eps)
    return (grad * normalised).flatten(1, -2).sum(1)


PER_IMAGE_GRADIENTS: dict[type[nn.Module], Callable[[nn.Module, Tensor, Tensor], Tensor]] = {
    nn.Linear: _linear_gradients,
    nn.Conv2d: _conv_gradients,
    nn.LayerNorm: _norm_gradients,
    MapNorm: _norm_gradients,
}
