"""Any vision backbone as a probe network: the output of the measures, and copies without norms."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from ..errors import InputError, one_line
from ..tokens import ImageSize, as_pair

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, _BatchNorm)


class AnyModel(nn.Module):
    """A backbone whose output z is the mean of its last tokens before the output norm, as for As-ViT.

    What is called is ``forward_features`` if the network has it (timm, and our AutoFormer and PiT), else
    ``forward`` (mmpretrain's backbones). A LayerNorm or RMSNorm that is the last layer to be called is the
    output norm and is replaced by the identity: after it, sum(z) depends on no weight.

    Args:
        network: takes images (B, 3, H, W) and returns tokens (B, T, C), a map (B, C, H, W), or (B, H, W, C)
            if ``num_features`` of the network is C, a vector (B, C), or a sequence that ends with one. It is
            changed: the output norm is removed.
        img_size: pixels of the images that it is tried with, one side or (height, width).
        output: 'pooled': z is the mean of the tokens (B, C); 'tokens': all of them, (B, T * C).

    Raises:
        InputError: the network does not take such images or returns something else.
    """

    in_channels = 3

    def __init__(self, network: nn.Module, img_size: ImageSize, output: str = 'pooled') -> None:
        super().__init__()
        self.network, self.output = network, output
        self.network.eval()
        first = next(network.parameters())
        self._remove_output_norm(first.new_zeros(1, 3, *as_pair(img_size)))

    def last_tokens(self, images: Tensor) -> Tensor:
        """Images to the last tokens before the output norm, (B, T, C)."""
        call: Any = getattr(self.network, 'forward_features', self.network)
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # which has no derivative in forward mode
        try:
            features = call(images)
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
        while isinstance(features, tuple | list) and features:
            features = features[-1]
        if not isinstance(features, Tensor) or not 2 <= features.ndim <= 4:
            found = tuple(features.shape) if isinstance(features, Tensor) else type(features)
            raise InputError(
                f'{type(self.network).__name__} returns {found}, not tokens (B, T, C), a map (B, C, H, W) '
                'or a vector (B, C): measure a factory that returns its backbone'
            )
        if features.ndim == 2:
            return features[:, None]
        if features.ndim == 4 and features.shape[-1] != getattr(self.network, 'num_features', None):
            return features.flatten(2).mT
        return features.flatten(1, -2)

    def pooled_tokens(self, images: Tensor) -> Tensor:
        """The output z of which the measures are functions."""
        tokens = self.last_tokens(images)
        return tokens.mean(1) if self.output == 'pooled' else tokens.flatten(1)

    forward = pooled_tokens

    def _remove_output_norm(self, image: Tensor) -> None:
        called: list[nn.Module] = []
        leaves = [
            m for m in self.network.modules() if next(m.parameters(recurse=False), None) is not None
        ]
        hooks = [m.register_forward_hook(lambda m, *_: called.append(m)) for m in leaves]
        try:
            with torch.no_grad():
                self.last_tokens(image)
        except InputError:
            raise
        except Exception as error:  # whatever a network raises for images that do not fit it
            height, width = image.shape[2:]
            raise InputError(
                f'{type(self.network).__name__} cannot take an image of {height} x {width} pixels '
                f'({one_line(error)}): give another --img-size'
            ) from error
        finally:
            for hook in hooks:
                hook.remove()
        if called and isinstance(called[-1], nn.LayerNorm | nn.RMSNorm):
            _replace(self.network, lambda module: module is called[-1])


def is_norm(module: nn.Module) -> bool:
    """Whether this is a norm of torch, or by its name one of somebody else's."""
    leaf = next(module.children(), None) is None
    return isinstance(module, _NORMS) or (leaf and 'Norm' in type(module).__name__)


def without_norms(network: nn.Module) -> Any:
    """A copy of the network with identities for its norms; it shares all other parameters and buffers.

    The activation that some norms of timm contain stays.
    """
    shared = {id(value): value for value in (*network.parameters(), *network.buffers())}
    norm_free = copy.deepcopy(network, shared)
    _replace(norm_free, is_norm)
    return norm_free


def has_norms(network: nn.Module) -> bool:
    """Whether any module of the network is a norm."""
    return any(map(is_norm, network.modules()))


def count_multiply_adds(model: Any, img_size: ImageSize) -> int:
    """Multiply-adds of matrix products, convolutions and attention for one image, counted as they run."""
    image = next(model.parameters()).new_zeros(1, model.in_channels, *as_pair(img_size))
    # Of attention, the counter knows the matrix products of the explicit form alone.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.pooled_tokens(image)
    return counter.get_total_flops() // 2


def _replace(network: nn.Module, condition: Callable[[nn.Module], bool]) -> None:
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if condition(child):
                setattr(parent, name, getattr(child, 'act', None) or nn.Identity())
