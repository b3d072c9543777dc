"""NTK condition number of a network on a batch of images (As-ViT, section 3)."""

from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from ..models import AsViT
from .memory import backward_bytes, in_chunks
from .probe import eval_mode, pooled_tokens
from .score import Score


def ntk_condition_number(model: AsViT, images: Tensor, *, memory_limit: int | None = None) -> Score:
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
    image_bytes = backward_bytes(model.architecture, images.shape[2:], itemsize)
    sizes = [parameter.numel() for parameter in model.parameters()]
    # The gradients of the largest layer twice: those of the passes, and concatenated.
    fixed_bytes = 2 * count * max(sizes) * itemsize
    if memory_limit is not None and fixed_bytes + count * image_bytes > memory_limit:
        fixed_bytes += count * sum(sizes) * itemsize  # several passes keep all gradients
    gram = in_chunks(
        lambda chunk_size: ntk_gram(model, images, chunk_size),
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


def ntk_gram(model: AsViT, images: Tensor, chunk_size: int | None = None) -> Tensor:
    """Gram matrix (B, B), float64, of the gradients of sum(z_i) w.r.t. every ``weight``, for each image i.

    z are the model's ``pooled_tokens``. One backward pass serves many images: they do not interact, so the
    gradient w.r.t. the output of a layer contains those of all images, and each per-image gradient of the
    weight is a product of it and the input of the layer. The model is not changed.

    Args:
        chunk_size: images per pass; None: all. With fewer, the gradients of all images are kept.
    """
    gram = torch.zeros(len(images), len(images), dtype=torch.float64, device=images.device)
    chunks = images.split(chunk_size or len(images))
    kept: dict[nn.Module, list[Tensor]] = {}

    def hook(module: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        inputs = args[0].detach()
        if not output.requires_grad:  # the first layer: the graph starts at its output
            output = output.detach().requires_grad_()

        def add(grad: Tensor) -> None:
            gradients = kept.setdefault(module, [])
            gradients.append(_per_image_gradients(module, inputs, grad).flatten(1))
            if len(gradients) == len(chunks):
                for columns in torch.cat(kept.pop(module)).split(1 << 14, dim=1):
                    columns = columns.double()
                    gram.addmm_(columns, columns.T)

        output.register_hook(add)
        return output

    with eval_mode(model), torch.enable_grad(), ExitStack() as hooks:
        for module in model.modules():
            if module is not model and next(module.parameters(recurse=False), None) is not None:
                hooks.callback(module.register_forward_hook(hook).remove)
        constants = {name: value.detach() for name, value in model.named_parameters()}
        for chunk in chunks:
            pooled_tokens(model, constants, chunk).sum().backward()
    return gram


def _per_image_gradients(module: nn.Module, inputs: Tensor, grad: Tensor) -> Tensor:
    """Gradient of the weight of a layer for each image.

    Args:
        inputs: of the layer, (B, ..., in), or of a convolution without padding (B, in, H, W).
        grad: the gradient w.r.t. its output, (B, ..., out) or (B, out, h, w).

    Returns:
        (B, out, in), (B, out, in * kernel * kernel), or for a layer norm (B, channels).
    """
    if isinstance(module, nn.Linear):
        return grad.flatten(1, -2).mT @ inputs.flatten(1, -2)
    if isinstance(module, nn.Conv2d):
        patches = F.unfold(inputs, module.kernel_size, module.dilation, stride=module.stride)
        return grad.flatten(2) @ patches.mT
    if isinstance(module, nn.LayerNorm):
        normalized = F.layer_norm(inputs, module.normalized_shape, eps=module.eps)
        return (grad * normalized).flatten(1, -2).sum(1)
    raise InputError(
        f'per-image gradients of {type(module).__name__} are not implemented, only those of linear layers, '
        'convolutions and layer norms'
    )
