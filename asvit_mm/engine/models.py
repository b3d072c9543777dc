"""Models built from a config, with random weights and without downloading anything."""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from ..errors import InputError
from .config import find_config, load_config, require
from .failures import explain
from .runner import check_codebase


def load_model_config(name: str, options: Mapping[str, Any] | None = None) -> Config:
    """The config of an image model, without anything that would make it download weights.

    Args:
        name: a path, or ``mmdet::FOLDER/NAME.py`` for a config that mmdet ships.
        options: dotted keys and values that override the config.

    Raises:
        InputError: no such config, or the model needs more than an image.
    """
    cfg = load_config(find_config(name), options)
    require(cfg, ['model'], 'a prediction')
    check_codebase(cfg)
    if isinstance(cfg.model, dict) and 'language_model' in cfg.model:
        raise InputError(f'{name} needs a text with its image: give a model of images alone')
    _drop_checkpoints(cfg.model)
    return cfg


def build_model(cfg: Config, name: str) -> nn.Module:
    """The model of the config called ``name``, on the CPU, in evaluation mode, always with the same weights.

    Raises:
        InputError: it cannot be built.
    """
    scope = cfg.get('default_scope') or 'mmengine'
    # The weights decide how many proposals a detector keeps.
    with DefaultScope.overwrite_default_scope(scope), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            model: nn.Module = MODELS.build(cfg.model)
        except InputError:
            raise
        except Exception as error:
            said = explain(error, {'model': cfg.model})
            raise InputError(f'the model of {name} cannot be built: {said}') from error
    return model.eval()


def _drop_checkpoints(settings: Any) -> None:
    """Remove ``init_cfg`` and ``pretrained`` at any depth: they name checkpoints to download."""
    if isinstance(settings, dict):
        for key in ('init_cfg', 'pretrained'):
            settings.pop(key, None)
        settings = settings.values()
    elif not isinstance(settings, (list, tuple)):
        return
    for value in settings:
        _drop_checkpoints(value)
