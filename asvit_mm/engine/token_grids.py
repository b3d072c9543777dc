"""The parts of a model whose token grid can change."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from ..errors import InputError
from ..token_schedule import TokenizedBackbone


def find_backbones(modules: Iterable[nn.Module]) -> list[TokenizedBackbone]:
    """The backbones among the modules of a model whose token grid can change, at least one.

    Raises:
        InputError: there is none, or a detector's heads would get maps of other sizes than they are made for.
    """
    modules = list(modules)
    found: list[Any] = [module for module in modules if isinstance(module, TokenizedBackbone)]
    if not found:
        raise InputError(
            'the model has no AsViT backbone, nor another with a variable token stride'
        )
    # mmdet's heads place priors and crop regions by fixed strides, wrongly on maps of other sizes.
    fixed = any(hasattr(m, 'prior_generator') or hasattr(m, 'featmap_strides') for m in modules)
    if fixed and not getattr(found[0], 'keep_map_sizes', False):
        raise InputError(
            'the heads of a detector need feature maps of the full grid: set '
            'model.backbone.keep_map_sizes=True, which AsViT has'
        )
    return found


def set_token_stride(model: nn.Module, stride: int) -> None:
    """Run all backbones of a model at another token stride.

    Raises:
        InputError: a model that cannot, or a stride that does not fit it.
    """
    for backbone in find_backbones(model.modules()):
        backbone.check_token_stride(stride)
        backbone.set_token_stride(stride)
