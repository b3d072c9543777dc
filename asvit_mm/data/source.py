"""The meaning of ``--data``, decided here and nowhere else.

Networks are measured on images of a :class:`DataSource`, and written configs train on it.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from ..arch import Architecture
from ..cost import count_macs, count_params
from ..errors import InputError
from .folder import FolderScan, scan_folder, typical_side

if TYPE_CHECKING:
    from mmengine.config import Config

DEFAULT = 'photographs'
CONFIG_SUFFIXES = ('.py', '.json', '.yml', '.yaml')
DIGITS_SIZE = 32
MULTI_LABEL_HEADS = ('MultiLabelClsHead', 'MultiLabelLinearClsHead', 'CSRAClsHead')
IMAGENET_CLASSES = 1000
IMAGENET_SIZE = 224


@dataclass(frozen=True)
class DataSource:
    """Images to measure networks on, and the data that a config trains on.

    Attributes:
        kind: what configs train on: the digits, an image folder, the data of a user's config, or, where there
            are no labels, ImageNet-1k.
        spec: what the user gave as ``--data``.
        name: last part of the config's file name.
        num_classes: classes of the head.
        pixels: height and width of the images that networks are measured on.
        img_size: height and width of the images that a written config trains on.
        folder, config: the image folder or the user's mmpretrain config; None if ``--data`` is not one.
        note: what the user should know about the choice.
        in_channels: channels of an image.
    """

    kind: Literal['digits', 'folder', 'config', 'imagenet']
    spec: str
    name: str
    num_classes: int
    pixels: int
    img_size: int
    folder: FolderScan | None = None
    config: 'Config | None' = field(default=None, repr=False)
    note: str = ''
    in_channels: int = 3

    @property
    def given_head(self) -> Mapping[str, Any] | None:
        """The head of the user's config where it must stay: images of several labels; None elsewhere."""
        model = (self.config and self.config.get('model')) or {}
        head: Mapping[str, Any] = model.get('head') or {}
        return head if str(head.get('type')).rpartition('.')[2] in MULTI_LABEL_HEADS else None

    def params(self, arch: Architecture) -> int:
        """Parameters of the classifier that a written config trains."""
        return count_params(
            arch, self.num_classes, img_size=self.img_size, in_channels=self.in_channels
        )

    def macs(self, arch: Architecture) -> int:
        """Multiply-adds of that classifier per image."""
        return count_macs(arch, self.img_size, self.num_classes, in_channels=self.in_channels)

    @property
    def root(self) -> str:
        """The absolute path of the folder or config, so that a written config works anywhere."""
        return os.path.realpath(self.spec)


def describe_data(spec: str | os.PathLike[str], img_size: int | None = None) -> DataSource:
    """The source that ``photographs``, ``digits``, ``noise``, an image folder or an mmpretrain config is.

    ``photographs``, ``noise`` and a folder without class folders have no labels: their configs train on
    ImageNet-1k. The names win over a folder of that name, which is ``./noise`` or a :class:`~pathlib.Path`.

    Args:
        img_size: height and width of the networks' images; None: 32 for the digits, what a config's
            backbone is made for, that of a labelled folder's images where these are smaller than 224, else
            224.

    Raises:
        InputError: nothing of the kind at ``spec``, a folder without images, or a config without a number
            of classes.
    """
    if spec == 'digits':
        size = img_size or DIGITS_SIZE
        return DataSource('digits', 'digits', 'digits', 10, size, size)
    size = img_size or IMAGENET_SIZE
    unlabelled = 'no labels to train on: trains on ImageNet-1k in data/imagenet'
    imagenet = (IMAGENET_CLASSES, size, IMAGENET_SIZE)
    if spec in ('photographs', 'noise'):
        what = 'crops of two photographs' if spec == 'photographs' else 'noise'
        note = f'measured on {what}, {unlabelled}'
        return DataSource('imagenet', spec, 'in1k', *imagenet, note=note)
    path = os.fspath(spec)
    if os.path.isdir(path):
        folder = scan_folder(path)
        if not folder.classes:
            note = f'{folder.path} has no class folders, {unlabelled}'
            return DataSource('imagenet', path, 'in1k', *imagenet, folder, note=note)
        note, classes = '; '.join(folder.notes), len(folder.classes)
        size = img_size or typical_side(folder, IMAGENET_SIZE)
        return DataSource('folder', path, _slug(path), classes, size, size, folder, note=note)
    if os.path.isfile(path) and path.endswith(CONFIG_SUFFIXES):
        return _user_config(path, img_size)
    problem = f'{path!r} is a file' if os.path.isfile(path) else f'no data at {path!r}'
    raise InputError(
        f'{problem}: give photographs, digits, noise, an image folder or an mmpretrain config (.py)'
    )


def _user_config(path: str, img_size: int | None) -> DataSource:
    # The OpenMMLab stack takes seconds to import, and the other sources need none of it.
    from ..engine.config import load_config, preprocessor_settings

    config = load_config(path)
    if (scope := config.get('default_scope', 'mmpretrain')) != 'mmpretrain':
        raise InputError(f'{path!r} is a config of {scope}: give one of mmpretrain')
    model, preprocessor = config.get('model') or {}, preprocessor_settings(config)
    head, backbone = model.get('head') or {}, model.get('backbone') or {}
    num_classes = head.get('num_classes') or preprocessor.get('num_classes')
    if type(num_classes) is not int or num_classes < 2:
        raise InputError(
            f'{path!r} has no number of classes (model.head.num_classes or '
            'data_preprocessor.num_classes): add it'
        )
    own_size = backbone.get('img_size')
    size = img_size or (own_size if type(own_size) is int else IMAGENET_SIZE)
    name = _slug(os.path.splitext(path)[0])
    channels = backbone.get('in_channels', 3)
    if type(channels) is not int or channels < 1:
        raise InputError(f'{path!r}: model.backbone.in_channels = {channels!r} is no number from 1')
    source = DataSource(
        'config', path, name, num_classes, size, size, config=config, in_channels=channels
    )
    if source.given_head is None:
        return source
    note = f'the head of {path} is kept, and costs are counted with the usual one'
    return replace(source, note=note)


def _slug(path: str) -> str:
    """The last part of a path as part of a config's name, where "_", "-" and "." have a meaning."""
    name = os.path.basename(os.path.realpath(path))
    return re.sub(r'[^a-z0-9]+', '', name.lower()) or 'data'
