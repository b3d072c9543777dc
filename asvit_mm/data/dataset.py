"""The dataset of written configs: an image folder with the same images and classes as for measuring."""

import os
from typing import Any

from mmpretrain.datasets import BaseDataset

from ..errors import InputError
from ..registry import DATASETS
from .folder import class_images


@DATASETS.register_module()
class ImageFolder(BaseDataset):
    """The images of class folders, found by :func:`asvit_mm.data.folder.class_images`.

    mmpretrain's CustomDataset takes every subfolder for a class, ``.ipynb_checkpoints`` included, and
    follows links in circles.

    Args:
        classes: the class folders in the order of their labels; None: all, sorted.
        kwargs: ``data_root``, ``data_prefix``, ``pipeline`` and the others of mmpretrain's BaseDataset.

    Raises:
        InputError: the folder has other class folders.
    """

    def __init__(self, classes: list[str] | None = None, **kwargs: Any) -> None:
        super().__init__(ann_file='', classes=classes, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """The path and the label of every image."""
        root = self.img_prefix
        images = class_images(root)
        classes = tuple(images) if self.CLASSES is None else self.CLASSES
        if unknown := set(classes) ^ set(images):
            raise InputError(
                f'{root!r} does not have the class folders of the config ({min(unknown)!r} is in one '
                'only): give it these, or write the config again'
            )
        self._metainfo['classes'] = classes
        return [
            {'img_path': os.path.join(root, file), 'gt_label': label}
            for label, name in enumerate(classes)
            for file in images[name]
        ]
