"""The folder of a model as the Hugging Face Hub has it, which several libraries open.

- ``config.json``: architecture, preprocessing and classes; timm (``local-dir:``, ``hf-hub:``), transformers
  (TimmWrapper) and :class:`AsViTForImageClassification` read it;
- ``model.safetensors``: the weights, under the names that mmpretrain's and mmdet's models have;
- ``config.py``: MMEngine's config, for mmpretrain and mmdet;
- ``README.md``: the model card.

Only a name of the zoo makes it import mmpretrain's models: beside transformers that import may fail.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin
from mmengine.config import Config
from safetensors.torch import load_file
from timm.data import resolve_data_config
from torch import Tensor, nn

from ..arch import PRESETS, as_architecture
from ..checkpoints.reading import check_fit, classes_of, read_checkpoint, save_safetensors
from ..engine.config import is_detector, is_segmentor, load_config
from ..errors import InputError, one_line
from ..models.classifier import classifier_config
from ..preprocessing import as_config, preprocessing_of, resize_with_pillow
from ..timm import AsVisionTransformer, default_cfgs, keep_what_timm_has
from ..utils.files import atomic_write_bytes, atomic_write_text
from ..version import __version__
from .card import TAGS, write_card

# Settings of AsViT that timm's model has (by timm's names), and those that do not change what is computed.
ARGUMENTS = {
    'img_size': 'img_size',
    'in_channels': 'in_chans',
    'window_size': 'window_size',
    'token_stride': 'token_stride',
    'token_projection': 'token_projection',
}
WITHOUT_EFFECT = {
    *('type', 'arch', 'out_indices', 'drop_rate', 'attn_drop_rate', 'drop_path_rate', 'with_cp'),
    *('frozen_stages', 'init_cfg', 'keep_map_sizes'),
}
FILES = ('README.md', 'config.py', 'model.safetensors', 'config.json')


class AsViTForImageClassification(
    AsVisionTransformer,
    PyTorchModelHubMixin,
    library_name='asvit_mm',
    license='apache-2.0',
    pipeline_tag='image-classification',
    tags=list(TAGS),
):
    """The classifier with huggingface_hub's ``from_pretrained``, ``save_pretrained`` and ``push_to_hub``.

    ``from_pretrained`` takes a folder of :func:`save_pretrained` or its name on the Hub, and loads strictly.
    A detector's folder gives its backbone. Arguments are those of
    :class:`~asvit_mm.timm.AsVisionTransformer`; ``pretrained_cfg`` has the preprocessing, for
    ``timm.data.resolve_model_data_config``.
    """

    pretrained_cfg: Mapping[str, Any] = {}

    def _save_pretrained(self, save_directory: Path) -> None:
        save_pretrained(self, save_directory)

    @classmethod
    def _from_pretrained(
        cls, *, config: Mapping[str, Any] | None = None, strict: bool = True, **kwargs: Any
    ) -> Any:
        if config is None or 'model_args' not in config:
            raise InputError(
                f'{kwargs["model_id"]!r} has no config.json of asvit_mm.save_pretrained: give a folder that '
                'it wrote, or its name on the Hub'
            )
        settings = {'num_classes': config['num_classes'], **config['model_args']}
        model = super()._from_pretrained(strict=strict, **{**settings, **kwargs})
        model.pretrained_cfg = {
            **config['pretrained_cfg'],
            'architecture': config['architecture'],
            'label_names': config.get('label_names'),
        }
        return model

    @classmethod
    def _load_as_safetensor(
        cls, model: Any, model_file: str, map_location: str, strict: bool
    ) -> Any:
        weights = keep_what_timm_has(load_file(model_file, device=map_location), model)
        if strict:
            check_fit(model, weights, model_file, optional=(), resampled='backbone.pos_embed')
        model.load_state_dict(weights, strict=strict)
        return model.to(map_location).eval()


def save_pretrained(model: str | nn.Module, folder: str | os.PathLike[str]) -> Path:
    """Write a model as a folder that timm, transformers, huggingface_hub, mmpretrain and mmdet open.

    Files of an earlier model in the folder are replaced.

    Args:
        model: name of a model of the zoo that has weights; what mmpretrain's ``get_model``, mmdet's
            ``init_detector`` or mmseg's ``init_model`` returned; or a model of :mod:`asvit_mm.timm`.
        folder: to write.

    Returns:
        the folder.

    Raises:
        InputError: an unknown name, a model without weights or config, a network or a preprocessing that timm
            cannot express, or a folder that cannot be written.
    """
    if isinstance(model, str):
        from ..zoo.index import fetch, find  # imports mmpretrain's models

        config, checkpoint = fetch(model)
        content = read_checkpoint(checkpoint)
        results = [r for r in find(model).results if r.get('Source') == 'measured here']
        meta, weights = content.get('meta', {}), content['state_dict']
        weights = {k: v.float() if v.is_floating_point() else v for k, v in weights.items()}
        return write_folder(Path(folder), load_config(config), weights, meta, results)
    cfg, classes = _describe(model)
    # Copies: tensors of a model may share their memory, and those of a file may not.
    weights = {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}
    weights = {key: value.contiguous() for key, value in weights.items()}
    return write_folder(Path(folder), cfg, weights, {'dataset_meta': classes})


def write_folder(
    folder: Path,
    cfg: Config,
    weights: Mapping[str, Tensor],
    meta: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write the four files; config.json, without which no loader opens the folder, last.

    Images of a classifier are resized by Pillow in every loader, whatever ``cfg`` resizes them by.

    Args:
        cfg: of the whole model.
        weights: of the whole model, under its names.
        meta: of the checkpoint; its ``dataset_meta`` has names and colours of the classes.
        results: see :func:`~asvit_mm.hub.card.write_card`.

    Raises:
        InputError: see :func:`save_pretrained`.
    """
    classes = classes_of(meta.get('dataset_meta'))
    config = describe_for_timm(cfg, classes.get('classes'))
    name = Path(cfg.filename).stem if cfg.filename else folder.resolve().name
    if name == 'config':  # of a folder like this one
        name = Path(cfg.filename).resolve().parent.name
    _check_fit(config, weights, name)
    header: dict[str, Any] = {'config': name, 'asvit_mm_version': __version__}
    if classes:
        header['dataset_meta'] = classes
    params = sum(value.numel() for value in weights.values())
    cfg = Config({**cfg.to_dict(), 'load_from': None, 'resume': False})
    cfg.pop('work_dir', None)
    task = _task(cfg)
    resized = task == 'image-classification' and resize_with_pillow(cfg)
    contents: tuple[str | bytes, ...] = (
        write_card(name, config, params, results, task, resized=resized),
        f'# {name}, with all that it inherits.\n{cfg.pretty_text}',
        save_safetensors(weights, header),
        json.dumps(config, indent=2) + '\n',
    )
    try:
        (folder / 'config.json').unlink(missing_ok=True)
        for file, content in zip(FILES, contents, strict=True):
            if isinstance(content, bytes):
                atomic_write_bytes(folder / file, content)
            else:
                atomic_write_text(folder / file, content)
    except OSError as error:
        raise InputError(
            f'{str(folder)!r} cannot be written to ({error.strerror}): name another folder'
        ) from None
    return folder


def _task(cfg: Config) -> str:
    if is_segmentor(cfg):
        return 'image-segmentation'
    return 'object-detection' if is_detector(cfg) else 'image-classification'


def describe_for_timm(cfg: Config, classes: Sequence[str] | None = None) -> dict[str, Any]:
    """The content of config.json: how timm builds the classifier, or a detector's backbone.

    Raises:
        InputError: timm's model lacks a setting of the config's, or timm cannot express the preprocessing.
    """
    name, backbone = cfg.filename or 'the config', cfg.model.backbone
    if backbone.type.removeprefix('asvit_mm.') != 'AsViT':
        raise InputError(f'{name}: timm knows AsViT of ours, not {backbone.type}')
    expressible = {**ARGUMENTS, **dict.fromkeys(WITHOUT_EFFECT)}
    if others := sorted(key for key in backbone if key not in expressible):
        raise InputError(f'{name}: the model in timm has no setting {others[0]!r} of AsViT')
    arch = as_architecture(backbone.get('arch', 'small'))
    head = None if is_detector(cfg) else cfg.model.get('head')
    if head is not None and head.type.removeprefix('mmpretrain.') != 'VisionTransformerClsHead':
        raise InputError(
            f'{name}: the model in timm has a VisionTransformerClsHead, not {head.type}'
        )
    num_classes = head.num_classes if head is not None else 0
    preset = next((key for key, value in PRESETS.items() if value == arch), 'seed')
    # timm's classifier without classes keeps a layer if it pools; a backbone has none.
    arguments = {} if num_classes else {'global_pool': ''}
    arguments |= {ours: backbone[key] for key, ours in ARGUMENTS.items() if key in backbone}
    default = default_cfgs[f'asvit_{preset}'].default
    described = {
        'architecture': f'asvit_{preset}',
        'num_classes': num_classes,
        'num_features': arch.widths[-1],
        'global_pool': 'avg' if num_classes else '',
        'model_args': {'arch': str(arch), **arguments},
        'pretrained_cfg': {
            **preprocessing_of(cfg),
            'fixed_input_size': False,
            'num_classes': num_classes,
            'pool_size': None,
            'first_conv': default.first_conv,
            'classifier': default.classifier if num_classes else None,
            'license': default.license,
        },
    }
    if classes and len(classes) == num_classes:
        described['label_names'] = list(classes)
    # As the loaders will read it: tuples become lists.
    return dict(json.loads(json.dumps(described)))


def _check_fit(config: Mapping[str, Any], weights: Mapping[str, Tensor], name: str) -> None:
    """Refuse weights that timm's model would not take as a whole."""
    with torch.device('meta'):  # shapes alone
        model = AsVisionTransformer(num_classes=config['num_classes'], **config['model_args'])
        try:
            model.load_state_dict(keep_what_timm_has(weights, model), assign=True)
        except RuntimeError as error:
            raise InputError(
                f'{name} is not what timm builds from its config: {one_line(error)[:250]}'
            ) from None


def _describe(model: nn.Module) -> tuple[Config, Any]:
    """The config of a model and its dataset_meta, as MMEngine calls names and colours of the classes."""
    if isinstance(model, AsVisionTransformer):
        names = dict(getattr(model, 'pretrained_cfg', {})).get('label_names')
        return _config_of(model), {'classes': names}
    cfg = getattr(model, '_config', None) or getattr(model, 'cfg', None)
    if not isinstance(cfg, Config):
        raise InputError(
            f'{type(model).__name__} does not know its config: build it with get_model of mmpretrain, '
            'init_detector of mmdet or init_model of mmseg, or give a name of the zoo'
        )
    return cfg, getattr(model, '_dataset_meta', None) or getattr(model, 'dataset_meta', None)


def _config_of(model: AsVisionTransformer) -> Config:
    """The config of mmpretrain that builds a model of timm."""
    if model.global_pool != ('avg' if model.num_classes else ''):
        raise InputError(
            f'num_classes={model.num_classes} and global_pool={model.global_pool!r}: '
            "mmpretrain has 'avg' with classes, and '' without"
        )
    backbone = model.backbone
    size = {'input_size': (backbone.in_channels, *backbone.img_size)}
    given = {**getattr(model, 'pretrained_cfg', {}), **size}
    data = as_config(resolve_data_config(pretrained_cfg=given))
    windows, stride = backbone.window_sizes, backbone.token_stride
    settings = {} if set(windows) == {None} else {'window_size': windows}
    if stride != backbone.base_token_stride:
        settings['token_stride'] = stride
    if backbone.token_projection != 'dilate':
        settings['token_projection'] = backbone.token_projection
    described = classifier_config(
        backbone.architecture,
        model.num_classes,
        img_size=backbone.img_size,
        in_channels=backbone.in_channels,
        **settings,
    )
    if not model.num_classes:
        described |= {'neck': None, 'head': None}
    return Config({'default_scope': 'mmpretrain', 'model': described, **data})
