"""What is measured, by its name: an architecture of ours, or a model of timm, mmpretrain or a factory."""

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from torch import nn

from ..arch import PRESETS, as_architecture
from ..errors import InputError, one_line
from ..measures import AnyModel, Subject
from ..models.classifier import init_weights


def find_subject(spec: str, img_size: int, output: str = 'pooled') -> Subject:
    """An architecture, or a function that creates an untrained network.

    Args:
        spec: a preset, an architecture string, ``timm:NAME``, ``mmpretrain:CONFIG`` (a name that it ships,
            or a path), or ``MODULE:FACTORY``, a function of Python without arguments that returns an
            ``nn.Module``; a module in the current folder counts.
        img_size: pixels a side of the images.
        output: of :class:`~asvit_mm.measures.AnyModel`.

    Raises:
        InputError: no such model, or it cannot be built or take such images.
    """
    source, _, name = spec.partition(':')
    if not name:
        return as_architecture(spec)
    create = {'timm': timm_builder, 'mmpretrain': _mmpretrain}.get(source)
    build = create(name, img_size) if create else _factory(source, name)

    def subject() -> AnyModel:
        try:
            network = build()
        except InputError:
            raise
        except Exception as error:  # whatever somebody else's code raises
            raise InputError(f'{spec} cannot be built: {one_line(error)}') from error
        if not isinstance(network, nn.Module):
            raise InputError(f'{spec} returns {type(network).__name__}, not an nn.Module')
        return AnyModel(network.requires_grad_(), img_size, output)

    subject()  # fails now or never
    return subject


def timm_builder(name: str, img_size: int) -> Callable[[], Any]:
    """Creates a model of timm with fresh weights and no head, for images of so many pixels.

    Raises:
        InputError: no such model, or none for such images.
    """
    import timm

    if not timm.is_model(name.partition('.')[0]):
        raise InputError(f'timm:{name}: no such model, see timm.list_models()')
    options: dict[str, Any] = {'num_classes': 0}
    try:
        timm.create_model(name, **options, img_size=img_size)
        options['img_size'] = img_size
    except TypeError:
        pass  # a network that takes images of any size
    except Exception as error:
        raise InputError(f'timm:{name} cannot be built: {one_line(error)}') from error
    return lambda: timm.create_model(name, **options)


def _mmpretrain(name: str, img_size: int) -> Callable[[], Any]:
    from mmengine.registry import DefaultScope
    from mmpretrain.apis import ModelHub
    from mmpretrain.registry import MODELS

    from ..engine.models import load_model_config

    if os.path.isfile(name):
        config = load_model_config(name).model
    else:
        try:
            config = ModelHub.get(name).config.model
        except ValueError as error:
            raise InputError(f'mmpretrain:{name}: {one_line(error)}') from error
    backbone = dict(config.get('backbone', config))
    backbone.pop('init_cfg', None)

    def build() -> Any:
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            try:
                network = MODELS.build({**backbone, 'img_size': img_size})
            except TypeError:
                network = MODELS.build(backbone)
            init_weights(network)
            return network

    return build


def _factory(module: str, name: str) -> Callable[[], Any]:
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        known = f'presets ({", ".join(PRESETS)}), architectures, timm:NAME, mmpretrain:CONFIG'
        raise InputError(
            f'{module}:{name} is no function of Python ({error}): give that, or {known}'
        ) from None
    finally:
        sys.path.remove(os.getcwd())
    if not callable(found):
        raise InputError(f'{module}:{name} is no function')
    return found
