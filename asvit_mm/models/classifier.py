"""The classifier of an architecture: backbone, mean of the last tokens, and the head of mmpretrain's ViT."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.registry import DefaultScope
from torch import nn

from ..arch import Architecture, as_architecture


def classifier_config(
    arch: str | Architecture, num_classes: int, **backbone: Any
) -> dict[str, Any]:
    """The config of mmpretrain that written configs, timings and costs share.

    The head is linear, tanh, linear; :mod:`asvit_mm.cost` counts it.

    Args:
        backbone: further arguments of :class:`~asvit_mm.models.AsViT`.
    """
    width = as_architecture(arch).widths[-1]
    return {
        'type': 'ImageClassifier',
        'backbone': {'type': 'asvit_mm.AsViT', 'arch': str(arch), **backbone},
        'neck': {'type': 'GlobalAveragePooling'},
        'head': {
            'type': 'VisionTransformerClsHead',
            'num_classes': num_classes,
            'in_channels': width,
            'hidden_dim': width,
            'act_cfg': {'type': 'Tanh'},
            'init_cfg': {'type': 'TruncNormal', 'layer': 'Linear', 'std': 0.02, 'bias': 0.0},
        },
    }


def build_classifier(config: Mapping[str, Any], seed: int | None = None) -> nn.Module:
    """A model of mmpretrain; the state of torch's generator is kept.

    Args:
        seed: that the weights are drawn from, as at the start of a training; None: any weights.
    """
    from mmpretrain.registry import MODELS  # slow to import, and the config needs none of it

    with DefaultScope.overwrite_default_scope('mmpretrain'), torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        model: Any = MODELS.build(dict(config))
        if seed is not None:
            init_weights(model)
    assert isinstance(model, nn.Module)
    return model


def init_weights(model: Any) -> None:
    """Draw a model's weights as its ``init_cfg`` says, without MMEngine's line for each of them."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.INFO))
    try:
        model.init_weights()
    finally:
        logging.disable(before)
