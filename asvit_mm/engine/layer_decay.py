"""Layer-wise learning-rate decay for the models of any OpenMMLab codebase."""

from collections.abc import Callable
from functools import partial
from typing import Any

from mmpretrain.engine import LearningRateDecayOptimWrapperConstructor
from torch import nn

from ..errors import InputError
from ..registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class BackboneDecayConstructor(LearningRateDecayOptimWrapperConstructor):
    """mmpretrain's constructor, extended to detectors and segmentors.

    A parameter's learning rate is the base rate times ``layer_decay_rate`` to the power of the number of
    layers after its own. mmpretrain's constructor calls the model's ``get_layer_depth``, which only its
    classifiers have; mmdet's and mmseg's know some backbones by name. This one calls the backbone's.

    Raises:
        InputError: neither the model nor its backbone has ``get_layer_depth``.
    """

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = '',
        get_layer_depth: Callable | None = None,
        **kwargs: Any,
    ) -> None:
        """Add the parameters of ``module`` and its children to the groups ``params``."""
        if get_layer_depth is None:
            backbone: Any = getattr(module, 'backbone', module)
            if not hasattr(backbone, 'get_layer_depth'):
                raise InputError(
                    f'layer-wise learning-rate decay: {type(backbone).__name__} has no get_layer_depth: '
                    'leave the constructor out, or give a backbone that has it'
                )
            prefix_of = '' if backbone is module else 'backbone.'
            get_layer_depth = partial(backbone.get_layer_depth, prefix=prefix_of)
        super().add_params(params, module, prefix, get_layer_depth, **kwargs)
