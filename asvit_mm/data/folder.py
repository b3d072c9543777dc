"""Image folders: which files are images and of which class, the same for measuring and for training."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from statistics import median_low

from ..errors import InputError

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif', '.tiff', '.webp')
# Image sizes that are chosen are multiples of these pixels: the token grids of all stages are even.
SIDE_STEP = 32
# Names of the validation folder beside train/, in upper or lower case; the first one found is taken.
VALIDATION = ('val', 'valid', 'validation', 'test')


@dataclass(frozen=True)
class FolderScan:
    """The content of an image folder.

    Attributes:
        path: the folder of the training images.
        files: the training images, relative to ``path``, sorted.
        classes: names of the class folders in the order of their labels; empty if there are no labels.
        train, val: names of the subfolders of the two splits; '' if there is none.
        notes: what the user should know, such as folders that are not used.
    """

    path: str
    files: tuple[str, ...] = field(repr=False)
    classes: tuple[str, ...]
    train: str
    val: str
    notes: tuple[str, ...]


def scan_folder(path: str) -> FolderScan:
    """Scan a folder of class folders, or one with ``train/`` and perhaps ``val/`` (or ``test/``).

    A folder with images in fewer than two subfolders has no labels: its images at any depth are taken.
    See :func:`class_images` for what counts.

    Raises:
        InputError: no images, a class folder without images, different class folders in the two splits, or
            a folder that cannot be read.
    """
    train, val = _find_splits(path)
    root = os.path.join(path, train) if train else path
    by_class = class_images(root)
    loose = _list_folder(root)[1]
    empty = [name for name, files in by_class.items() if not files]
    labelled = len(by_class) - len(empty) > 1
    if val and len(by_class) > 1:
        images = class_images(os.path.join(path, val))
        if unknown := set(by_class) ^ set(images):
            raise InputError(
                f'{path!r}: {train}/ and {val}/ have different class folders ({min(unknown)!r} is in one '
                'only): give both the same'
            )
        if not any(images.values()):
            raise InputError(
                f'no images in {os.path.join(path, val)!r}: add some or remove the folder'
            )
    if labelled and empty:
        raise InputError(
            f'class folder {os.path.join(root, empty[0])!r} holds no images: add some or remove it'
        )
    files = _by_parts(chain([] if labelled else loose, *by_class.values()))
    if not files:
        raise InputError(f'no images in {root!r} ({", ".join(IMAGE_SUFFIXES)})')
    unused = [f'{n}/' for n in _list_folder(path)[0] if train and n not in (train, val)]
    notes = {
        'no val/ beside train/: nothing is validated; add val_dataloader for it': labelled
        and not val,
        f'{val}/ is the validation set': labelled and val.lower() == 'test',
        f'not used: {len(loose)} images beside the class folders': labelled and loose,
        f'not used: {", ".join(unused)} beside {train}/': unused,
    }
    classes = tuple(by_class) if labelled else ()
    stated = tuple(note for note, holds in notes.items() if holds)
    return FolderScan(root, tuple(files), classes, train, val, stated)


def typical_side(folder: FolderScan, most: int) -> int:
    """Shorter side of a folder's images, in pixels: the median of up to 64 of them, and at most ``most``.

    Rounded to a multiple of ``SIDE_STEP``, at least one; ``most`` where no image can be read.
    """
    from PIL import Image

    sides = []
    for file in folder.files[:: -(-len(folder.files) // 64)]:
        with suppress(Exception), Image.open(os.path.join(folder.path, file)) as image:
            sides.append(min(image.size))
    side = median_low(sides) if sides else most
    return most if side >= most else max(1, round(side / SIDE_STEP)) * SIDE_STEP


def class_images(root: str) -> dict[str, list[str]]:
    """The images of each subfolder of ``root``, at any depth, relative to ``root`` and sorted.

    An image is a regular file with one of ``IMAGE_SUFFIXES``, upper case or lower. Hidden files and folders
    and those that macOS adds to archives are left out. Links are followed, into each folder once.

    Raises:
        InputError: a folder cannot be read.
    """
    return {
        name: _by_parts(_images_below(root, name, {os.path.realpath(root)}))
        for name in _list_folder(root)[0]
    }


def _images_below(root: str, folder: str, seen: set[str]) -> Iterator[str]:
    """The images in ``root/folder`` at any depth, relative to ``root``; ``seen`` are folders to skip."""
    path = os.path.join(root, folder)
    real = os.path.realpath(path)
    if real in seen:
        return
    seen.add(real)
    folders, images = _list_folder(path)
    for name in images:
        yield os.path.join(folder, name)
    for name in folders:
        yield from _images_below(root, os.path.join(folder, name), seen)


def _list_folder(path: str) -> tuple[list[str], list[str]]:
    """Names of the subfolders and of the images that lie in a folder itself, each sorted."""
    folders, images = [], []
    try:
        for entry in list(os.scandir(path)):
            if entry.name.startswith('.') or entry.name == '__MACOSX':
                continue
            if entry.is_dir():
                folders.append(entry.name)
            elif entry.name.lower().endswith(IMAGE_SUFFIXES) and entry.is_file():
                images.append(entry.name)
    except OSError as error:
        raise InputError(
            f'{(error.filename or path)!r} cannot be read ({error.strerror}): repair or remove it'
        ) from None
    return sorted(folders), sorted(images)


def _by_parts(files: Iterable[str]) -> list[str]:
    """Sorted as paths are: folder by folder."""
    return sorted(files, key=lambda file: file.split(os.sep))


def _find_splits(path: str) -> tuple[str, str]:
    """Names of the training and the validation folder in ``path``; '' if there is none."""
    folders = _list_folder(path)[0]
    # Of 'Train' and 'train' the second one wins: it is sorted after the first.
    names = {name.lower(): name for name in folders}
    train = names.get('train', '')
    others = set(names) - {'train', *VALIDATION}
    # Beside other classes, a train/ without class folders is a class: pictures of trains.
    if not train or (others and not _list_folder(os.path.join(path, train))[0]):
        return '', ''
    return train, next((names[name] for name in VALIDATION if name in names), '')
