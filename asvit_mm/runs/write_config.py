"""A config that trains a named network on one's own images."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..arch import PRESETS, Architecture, as_architecture
from ..checkpoints.reading import read_checkpoint
from ..config_writer.coco import coco_text
from ..config_writer.configs import config_text
from ..config_writer.naming import network_names
from ..config_writer.recipes import RecipeOptions, recipe
from ..config_writer.text import launch_command
from ..data.coco import CocoScan, is_coco, scan_coco
from ..data.source import IMAGENET_SIZE, describe_data
from ..engine.config import load_config, preprocessor_settings
from ..errors import InputError
from ..utils.console import print_summary
from ..utils.files import atomic_write_text, relative
from .settings import WriteConfigSettings

FOLDER = Path('work_dirs/configs')
ZOO = 'zoo'
# Arguments of a backbone that the data or the detector decides.
_DECIDED = (
    'type', 'arch', 'img_size', 'in_channels', 'drop_path_rate', 'out_indices', 'window_size', 'init_cfg',
)  # fmt: skip


@dataclass(frozen=True)
class NamedNetwork:
    """A network by its architecture or by a model that has it.

    Attributes:
        backbone: further arguments of the model's backbone.
        img_size: that the model is trained at; None without a model.
        normalization: ``mean`` and ``std`` of the model's images.
        bgr: whether they are normalized as BGR.
    """

    arch: Architecture
    backbone: Mapping[str, Any] = field(default_factory=dict)
    img_size: int | None = None
    normalization: Mapping[str, Any] | None = None
    bgr: bool = False


def write_config(settings: WriteConfigSettings, tools: Path = Path('tools')) -> Path:
    """Write the config and print what it trains and the command; returns its path.

    Args:
        tools: folder of the tools, for the command.

    Raises:
        InputError: a mistake in the settings; nothing has been written.
    """
    detection = _detects(settings)
    network = find_network(str(settings.arch))
    checkpoint = _find_weights(settings)
    # The images of a model whose weights are taken look to them as its own did.
    normalization = network.normalization if checkpoint is not None else None
    if detection:
        _check_order(network, checkpoint)
        data = scan_coco(
            settings.data, val=settings.val, images=settings.images, classes=settings.classes
        )
        given: dict[str, Any] = {
            'epochs': settings.epochs,
            'batch_size': settings.batch_size,
            'long_side': settings.img_size,
            'img_size': (checkpoint and network.img_size) or IMAGENET_SIZE,
            'backbone': _backbone(network, checkpoint, 3),
            'normalization': normalization,
        }
        path = _target(settings, _detector_name(network.arch, data))
        text, gpus = coco_text(network.arch, data, path=relative(path), **given), 1
        note = f'{len(data.files):,} images, {len(data.classes)} classes'
    else:
        source = describe_data(settings.data, settings.img_size)
        if source.kind == 'folder':  # other data have a normalization of their own
            _check_order(network, checkpoint)
        options = RecipeOptions(
            settings.epochs, settings.batch_size, checkpoint is not None, normalization
        )
        plan = recipe(source, options)
        schedule = plan.batch_name + '-progressive' * settings.progressive
        name = f'{next(network_names(network.arch, source))}_{schedule}_{source.name}.py'
        path = _target(settings, name)
        text = config_text(
            network.arch,
            source,
            progressive=settings.progressive,
            path=relative(path),
            options=options,
            backbone=_backbone(network, checkpoint, source.in_channels),
        )
        gpus = plan.gpus
        note = f'{source.num_classes} classes at {source.img_size}x{source.img_size} pixels'
        note += f'; {source.note}' * bool(source.note)
    atomic_write_text(path, text)
    python = relative(Path(sys.executable))
    command = launch_command(relative(path), gpus, python=python, tools=relative(tools))
    rows = {'network': str(network.arch), 'data': note, 'config': relative(path), 'train': command}
    print_summary(rows)
    return path


def find_network(spec: str) -> NamedNetwork:
    """The network that an architecture, a preset, a config or a name of the zoo stands for.

    Raises:
        InputError: none of these, or a config without an AsViT backbone.
    """
    if '|' in spec or spec in PRESETS:
        return NamedNetwork(as_architecture(spec))
    if spec.endswith('.py'):
        path = spec
    else:
        from ..zoo import find  # takes seconds

        try:
            path = str(find(spec).config)
        except InputError as error:
            raise InputError(
                f'{spec!r} is neither an architecture string nor a preset ({", ".join(PRESETS)}), and {error}'
            ) from None
    cfg = load_config(path)
    model = cfg.get('model') or {}
    backbone = model.get('backbone') or {}
    if str(backbone.get('type')).rpartition('.')[2] != 'AsViT':
        raise InputError(
            f'{path!r} has no AsViT backbone: give a config that has, or an architecture'
        )
    found = preprocessor_settings(cfg)
    rgb = found.get('to_rgb') or found.get('bgr_to_rgb') or backbone.get('in_channels', 3) != 3
    mean, std = (list(found.get(name) or ()) for name in ('mean', 'std'))
    img_size = backbone.get('img_size', IMAGENET_SIZE)
    return NamedNetwork(
        as_architecture(backbone.get('arch', 'small')),
        {key: value for key, value in backbone.items() if key not in _DECIDED},
        img_size if type(img_size) is int else max(img_size),
        {'mean': mean, 'std': std} if mean and std else None,
        bool(mean and not rgb),
    )


def _detects(settings: WriteConfigSettings) -> bool:
    annotated = is_coco(settings.data)
    if settings.task == 'detection' and not annotated:
        raise InputError(
            f"{settings.data!r} has no boxes: detection needs annotations in COCO's format (.json with "
            'images, annotations and categories)'
        )
    if settings.task == 'classification' and annotated:
        raise InputError(f'{settings.data!r} has boxes: leave --task out, or give an image folder')
    unused = ('progressive',) if annotated else ('val', 'images', 'classes')
    for name in unused:
        if getattr(settings, name):
            flag = name.replace('_', '-')
            task = 'a classifier' if annotated else 'a detector'
            raise InputError(f'--{flag} is for {task}, and {settings.data!r} is not: leave it out')
    return annotated


def _find_weights(settings: WriteConfigSettings) -> str | None:
    """The path of the checkpoint to start from, if any."""
    if settings.weights is None:
        return None
    if settings.weights == ZOO:
        from ..zoo import fetch

        return fetch(str(settings.arch))[1]
    return os.path.realpath(settings.weights)


def _check_order(network: NamedNetwork, checkpoint: str | None) -> None:
    """Refuse weights that saw BGR images: the configs that are written here give them RGB."""
    if checkpoint is not None and network.bgr:
        raise InputError(
            f'the images of {checkpoint!r} were BGR (to_rgb=False), and those here are RGB: leave --weights '
            'out, or give those of a model with to_rgb=True'
        )


def _backbone(network: NamedNetwork, checkpoint: str | None, channels: int) -> dict[str, Any]:
    """Further arguments of the backbone for images of ``channels``.

    Weights are those of a classifier or detector with the backbone, or of the backbone alone.
    """
    if checkpoint is None:
        return dict(network.backbone)
    content = read_checkpoint(checkpoint)
    weights = content.get('state_dict', content)
    whole = any(key.startswith('backbone.') for key in weights)
    prefix = {'prefix': 'backbone.'} if whole else {}
    first = weights.get(f'{prefix.get("prefix", "")}patch_embed.proj.weight')
    if first is not None and first.shape[1] != channels:
        raise InputError(
            f'{checkpoint!r} takes images of {first.shape[1]} channels, and the data have {channels}: leave '
            '--weights out, or give others'
        )
    return {
        **network.backbone,
        'init_cfg': {'type': 'Pretrained', 'checkpoint': checkpoint, **prefix},
    }


def _detector_name(arch: Architecture, data: CocoScan) -> str:
    name = next(network_names(arch, describe_data('noise')))
    folder = Path(data.train.annotations).parent
    folder = folder.parent if folder.name == 'annotations' else folder
    kind = 'mask-rcnn' if data.masks else 'faster-rcnn'
    return f'{kind}_{name}_fpn_{"".join(filter(str.isalnum, folder.name.lower())) or "coco"}.py'


def _target(settings: WriteConfigSettings, name: str) -> Path:
    path = Path(settings.out) if settings.out else FOLDER / name
    if path.suffix != '.py':
        raise InputError(f'--out {str(path)!r} is no name of a config: give one that ends in .py')
    if path.exists() and not settings.overwrite:
        raise InputError(f'{str(path)!r} is there already: give --overwrite, or another --out')
    return path
