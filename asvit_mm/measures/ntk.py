"""NTK condition number of a network on a batch of images (As-ViT, section 3)."""

import math
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from .any_model import AnyModel
from .memory import activation_bytes, backward_bytes, in_chunks
from .probe import Probed, eval_mode, pooled_tokens
from .score import Score


def ntk_condition_number(
    model: Probed, images: Tensor, *, memory_limit: int | None = None
) -> Score:
    """Ratio of largest to smallest eigenvalue of the Gram matrix of per-image gradients; lower is better.

    Args:
        model: the network, with its norms.
        images: (B, 3, H, W), at least two.
        memory_limit: bytes that activations and gradients may take, see :mod:`.memory`; None: no limit.

    Raises:
        InputError: fewer than two images, or the limit is too small for a single image.
    """
    count, itemsize = len(images), images.element_size()
    if count < 2:
        raise InputError(
            f'{count} image(s) do not define an NTK condition number: give at least two'
        )
    image_bytes = activation_bytes(backward_bytes, model, images.shape[2:], itemsize)
    sizes = [parameter.numel() for parameter in model.parameters()]
    # The gradients of the largest layer twice: those of the passes, and concatenated.
    fixed_bytes = 2 * count * max(sizes) * itemsize
    if memory_limit is not None and fixed_bytes + count * image_bytes > memory_limit:
        fixed_bytes += count * sum(sizes) * itemsize  # several passes keep all gradients
    gram = in_chunks(
        lambda chunk_size: gram_of_model(model, images, chunk_size),
        count,
        image_bytes=image_bytes,
        fixed_bytes=fixed_bytes,
        memory_limit=memory_limit,
    )
    if not gram.isfinite().all():
        return Score.bad('the gradients have NaN or infinite entries')
    eigenvalues = torch.linalg.eigvalsh(gram)
    smallest, largest = eigenvalues[0].item(), eigenvalues[-1].item()
    # Gradients have the precision of the model: what it cannot distinguish from 0 is 0.
    if smallest <= largest * count * torch.finfo(images.dtype).eps:
        return Score.bad(
            'the Gram matrix is singular in this precision (are images of the batch identical?)'
        )
    return Score(largest / smallest)


def ntk_gram(model: Probed, images: Tensor, chunk_size: int | None = None) -> Tensor:
    """Gram matrix (B, B), float64, of the gradients of sum(z_i) w.r.t. every ``weight``, for each image i.

    z are the model's ``pooled_tokens``. One backward pass serves many images: they do not interact, so the
    gradient w.r.t. the output of a layer contains those of all images, and each per-image gradient of the
    weight is a product of it and the input of the layer. The model is not changed.

    Args:
        chunk_size: images per pass; None: all. With fewer, the gradients of all images are kept.
    """
    gram = torch.zeros(len(images), len(images), dtype=torch.float64, device=images.device)
    chunks = images.split(chunk_size or len(images))
    batch = len(images)
    kept: dict[nn.Module, list[Tensor]] = {}

    def hook(module: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        inputs = args[0].detach()
        if not output.requires_grad:  # the first layer: the graph starts at its output
            output = output.detach().requires_grad_()

        def add(grad: Tensor) -> None:
            gradients = kept.setdefault(module, [])
            gradients.append(_per_image_gradients(module, inputs, grad, batch).flatten(1))
            if len(gradients) == len(chunks):
                for columns in torch.cat(kept.pop(module)).split(1 << 14, dim=1):
                    columns = columns.double()
                    gram.addmm_(columns, columns.T)

        output.register_hook(add)
        return output

    with eval_mode(model), torch.enable_grad(), ExitStack() as hooks:
        for module in model.modules():
            if isinstance(getattr(module, 'weight', None), nn.Parameter):
                hooks.callback(module.register_forward_hook(hook).remove)
        constants = {name: value.detach() for name, value in model.named_parameters()}
        for chunk in chunks:
            batch = len(chunk)
            pooled_tokens(model, constants, chunk).sum().backward()
    return gram


def gram_of_model(model: Probed, images: Tensor, chunk_size: int | None = None) -> Tensor:
    """:func:`ntk_gram`, or for a model whose weights are not all those of plain layers, one image at a time.

    Where :func:`ntk_gram` would do, its first entry is compared with that of the first image alone: layers
    may be called twice, or with images that are not one after the other.
    """
    if not isinstance(model, AnyModel):
        return ntk_gram(model, images, chunk_size)
    plain = {f'{name}.weight' for name, module in model.named_modules() if _is_plain(module)}
    if all(name in plain for name, _ in model.named_parameters() if 'weight' in name):
        gram = ntk_gram(model, images, chunk_size)
        expected = slow_ntk_gram(model, images[:1])[0, 0].item()
        if math.isclose(gram[0, 0].item(), expected, rel_tol=1e-3):
            return gram
    return slow_ntk_gram(model, images)


def slow_ntk_gram(model: Probed, images: Tensor) -> Tensor:
    """:func:`ntk_gram` by its definition, for any model: one backward pass of a single image for each."""
    rows: list[Tensor] = []
    values = {name: value.detach() for name, value in model.named_parameters()}
    weights = {n: value.requires_grad_() for n, value in values.items() if 'weight' in n}
    with eval_mode(model), torch.enable_grad():
        for image in images:
            total = pooled_tokens(model, values, image[None]).sum()
            gradients = torch.autograd.grad(
                total, list(weights.values()), allow_unused=True, materialize_grads=True
            )
            rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
    gram = torch.zeros(len(images), len(images), dtype=torch.float64, device=images.device)
    for columns in torch.stack(rows).split(1 << 14, dim=1):
        gram.addmm_(columns.double(), columns.double().T)
    return gram


def _is_plain(module: nn.Module) -> bool:
    """Whether :func:`_per_image_gradients` knows the layer: a subclass may compute something else."""
    kinds = (nn.Linear, nn.Conv2d, nn.LayerNorm)
    kind = next((kind for kind in kinds if type(module).forward is kind.forward), None)
    if kind is nn.Conv2d and not (
        module.padding_mode == 'zeros' and isinstance(module.padding, tuple)
    ):
        return False
    return kind is not None


def _per_image_gradients(module: nn.Module, inputs: Tensor, grad: Tensor, count: int) -> Tensor:
    """Gradient of the weight of a layer for each image.

    Args:
        inputs: of the layer, (..., in), or of a convolution (B, in, H, W).
        grad: the gradient w.r.t. its output, (..., out) or (B, out, h, w).
        count: B; the images are one after the other in the first axis, each perhaps in several windows.

    Returns:
        (B, out, in), (B, out, in / groups * kernel * kernel), or for a layer norm (B, channels).
    """
    if isinstance(module, nn.Linear):
        inputs, grad = (x.reshape(count, -1, x.shape[-1]) for x in (inputs, grad))
        return grad.mT @ inputs
    if isinstance(module, nn.Conv2d):
        padding: Any = module.padding
        patches = F.unfold(inputs, module.kernel_size, module.dilation, padding, module.stride)
        patches = patches.unflatten(1, (module.groups, -1))
        grad = grad.flatten(2).unflatten(1, (module.groups, -1))
        return (grad @ patches.mT).flatten(1, 2)
    if isinstance(module, nn.LayerNorm):
        normalized = F.layer_norm(inputs, module.normalized_shape, eps=module.eps)
        return (grad * normalized).reshape(count, -1, grad.shape[-1]).sum(1)
    raise InputError(
        f'per-image gradients of {type(module).__name__} are not implemented, only those of linear layers, '
        'convolutions and layer norms'
    )
