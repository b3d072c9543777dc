"""What ``--data`` means for a config: the classes, where the images lie, what a file is called."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..engine.config import check_classifier, load_config
from ..errors import InputError
from .image_sets import DIGITS

CONFIG_SUFFIXES = ('.py', '.json', '.yml', '.yaml')
IMAGENET_CLASSES = 1000
IMAGENET_SIZE = 224


@dataclass(frozen=True)
class DataSource:
    """The data that a config trains on.

    Attributes:
        kind: which recipe the config is written from.
        name: last part of the config's file name.
        num_classes: classes of the head.
        img_size: pixels a side that the network is trained at.
        images: what :func:`asvit_mm.data.images.load_images` draws the images to measure on from.
        root: the image folder or the config, absolute, so that a written config works anywhere (the
            digits' folder is relative to where training starts, as data folders are by convention).
        train, val: sub-folders of an image folder; val is None where there is none.
        settings: top-level fields of the user's config (kind 'config').
        note: what the user should know about the choice, for the config's header.
    """

    kind: Literal['digits', 'folder', 'config', 'imagenet']
    name: str
    num_classes: int
    img_size: int
    images: str
    root: str = ''
    train: str = ''
    val: str | None = None
    settings: dict[str, Any] = field(default_factory=dict, repr=False)
    note: str = ''


def describe_data(spec: str, img_size: int) -> DataSource:
    """Understand ``digits``, ``noise``, an image folder or an mmpretrain config.

    ``noise`` and a folder without class folders have no labels: their configs train on ImageNet-1k.

    Args:
        img_size: pixels a side of the networks' images in this run.

    Raises:
        InputError: nothing of the kind at ``spec``, or a config without a number of classes.
    """
    if spec == 'digits':
        return DataSource('digits', 'digits', 10, img_size, spec, DIGITS.root, 'train', 'val')
    if spec == 'noise':
        return _imagenet(spec, 'measured on noise')
    path = Path(spec)
    if path.is_dir():
        return _image_folder(path, img_size)
    if path.is_file() and path.suffix in CONFIG_SUFFIXES:
        return _user_config(path, img_size)
    raise InputError(
        f'no data at {spec!r}: give digits, noise, an image folder or an mmpretrain config (.py)'
    )


def _imagenet(images: str, why: str) -> DataSource:
    note = f'{why}, no labels to train on: trains on ImageNet-1k in data/imagenet'
    return DataSource(
        'imagenet', 'in1k', IMAGENET_CLASSES, IMAGENET_SIZE, images, 'data/imagenet', note=note
    )


def _image_folder(path: Path, img_size: int) -> DataSource:
    split = (path / 'train').is_dir()
    train = path / 'train' if split else path
    classes = _class_folders(train)
    if len(classes) < 2:
        return _imagenet(str(train), f'{train} has no class folders')
    val = 'val' if split and (path / 'val').is_dir() else None
    if val and (unknown := set(_class_folders(path / val)) ^ set(classes)):
        raise InputError(
            f'{path}: train/ and val/ have different class folders ({sorted(unknown)[0]!r} is '
            'in one only): give both the same'
        )
    note = '' if val else 'no val/ beside train/: nothing is validated; add val_dataloader for it'
    return DataSource(
        'folder',
        _slug(path.resolve().name),
        len(classes),
        img_size,
        str(train),
        str(path.resolve()),
        'train' if split else '',
        val,
        note=note,
    )


def _user_config(path: Path, img_size: int) -> DataSource:
    cfg = load_config(path)
    check_classifier(cfg, path)
    head = cfg.get('model', {}).get('head') or {}
    preprocessor = cfg.get('data_preprocessor') or {}
    num_classes = head.get('num_classes') or preprocessor.get('num_classes')
    if type(num_classes) is not int or num_classes < 2:
        raise InputError(
            f'{str(path)!r} has no number of classes (model.head.num_classes or '
            'data_preprocessor.num_classes): add it'
        )
    return DataSource(
        'config',
        _slug(path.stem),
        num_classes,
        img_size,
        str(path),
        str(path.resolve()),
        settings=cfg.to_dict(),
    )


def _class_folders(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith('.'))


def _slug(name: str) -> str:
    # "_" and "-" separate the parts of a config's name, and a dot is a decimal point there.
    return re.sub(r'[^a-z0-9]+', '', name.lower()) or 'data'
