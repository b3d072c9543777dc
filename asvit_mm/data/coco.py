"""Annotations in COCO's format: where the images lie, which classes, how large images and boxes are."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from statistics import median_low, quantiles
from typing import Any

from ..errors import InputError
from ..utils.files import read_object
from .folder import VALIDATION

LISTS = ('images', 'annotations', 'categories')


@dataclass(frozen=True)
class CocoSplit:
    """One file of annotations: its absolute path and the folder that the names of its images start from."""

    annotations: str
    images: str


@dataclass(frozen=True)
class CocoScan:
    """What training a detector needs to know of a set.

    Attributes:
        train, val: the two splits; None: nothing to validate on.
        classes: names of the annotated categories, in the order of the file: that of mmdet's labels.
        files: training images, absolute paths.
        size: (width, height) of the images, in pixels: the medians.
        small_box, large_box: sides of boxes (square root of the area, in pixels) that a tenth of the boxes
            are below and above.
        masks: whether every object has a mask.
        note: what the user should know.
    """

    train: CocoSplit
    val: CocoSplit | None
    classes: tuple[str, ...]
    files: tuple[str, ...] = field(repr=False)
    size: tuple[int, int]
    small_box: float
    large_box: float
    masks: bool
    note: str


def is_coco(path: str | os.PathLike[str]) -> bool:
    """Whether it is a JSON file with COCO's three lists, and not a config of MMEngine."""
    path = os.fspath(path)
    return path.endswith('.json') and os.path.isfile(path) and all(k in _read(path) for k in LISTS)


def scan_coco(
    path: str | os.PathLike[str],
    *,
    val: str | None = None,
    images: str | None = None,
    classes: Sequence[str] = (),
) -> CocoScan:
    """Read a file of annotations for training.

    Args:
        val: annotations to validate on; None: the file of the same name with val, valid, validation or test
            for train, in its name or its folder's, if there is one.
        images: folder of the images; None: it is looked for around the file.
        classes: names of the categories to train on; none given: all that have annotations.

    Raises:
        InputError: a file that is not in COCO's format, images that are not found, unknown classes, or other
            categories to validate on.
    """
    path = os.path.realpath(path)
    content = _read(path)
    named = _named(content, path)
    if not all(isinstance(one.get('category_id'), int) for one in content['annotations']):
        raise InputError(f"{path!r}: every annotation needs an integer 'category_id': add it")
    counts = Counter(one.get('category_id') for one in content['annotations'])
    if unknown := [name for name in classes if name not in named.values()]:
        raise InputError(
            f'{path!r} has no category {unknown[0]!r}: it has {", ".join(map(str, named.values()))}'
        )
    chosen = {key: n for key, n in named.items() if (n in classes if classes else counts[key])}
    boxes = [one for one in content['annotations'] if one.get('category_id') in chosen]
    objects = [one for one in boxes if not one.get('iscrowd')]
    sides = sorted(_side(one, path) for one in objects)
    sides = [side for side in sides if side > 0]
    if not sides:
        raise InputError(f'{path!r} has no box of {", ".join(chosen.values()) or "any category"}')
    train = CocoSplit(path, _image_folder(content, path, images))
    other = _find_validation(path) if val is None else os.path.realpath(val)
    split = None if other is None else _validation_split(other, images, tuple(chosen.values()))
    # Inclusive deciles of a few boxes lie among these boxes.
    deciles = quantiles(sides, n=10, method='inclusive') if len(sides) > 1 else sides
    sizes = [(one.get('width'), one.get('height')) for one in content['images']]
    if not all(type(side) is int and side > 0 for size in sizes for side in size):
        raise InputError(f"{path!r}: every image needs 'width' and 'height' in pixels: add them")
    unused = [name for key, name in named.items() if key not in chosen]
    return CocoScan(
        train,
        split,
        tuple(chosen.values()),
        tuple(os.path.join(train.images, one['file_name']) for one in content['images']),
        (median_low(w for w, _ in sizes), median_low(h for _, h in sizes)),
        deciles[0],
        deciles[-1],
        all(one.get('segmentation') for one in objects),
        f'{len(unused)} of {len(named)} categories not trained on, {unused[0]!r} first'
        if unused
        else '',
    )


@lru_cache(maxsize=4)
def _read(path: str) -> dict[str, Any]:
    if not os.path.isfile(path):
        raise InputError(f'no annotations at {path!r}: give a JSON file in the format of COCO')
    return read_object(Path(path), 'give a JSON file in the format of COCO', depth=None)


def _named(content: Mapping[str, Any], path: str) -> dict[Any, str]:
    """The name of each category by its id, in the order of the file, which is that of mmdet's labels."""
    for name in LISTS:
        items = content.get(name)
        if (
            not isinstance(items, list)
            or not items
            or not all(isinstance(one, dict) for one in items)
        ):
            raise InputError(f'{path!r} has no {name!r}: give annotations in the format of COCO')
    if not all(isinstance(one.get('id'), int) for one in content['categories']):
        raise InputError(f"{path!r}: every category needs an integer 'id': add it")
    named = {one.get('id'): str(one.get('name')) for one in content['categories']}
    if len(set(named.values())) < len(content['categories']):
        raise InputError(f'{path!r} has two categories of the same name or id: rename one')
    return named


def _side(annotation: Mapping[str, Any], path: str) -> float:
    try:
        _, _, width, height = annotation['bbox']
        return float(max(0, width) * max(0, height)) ** 0.5
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{path!r}: annotation {annotation.get('id')!r} has no 'bbox' [x, y, width, height]: add it"
        ) from None


def _find_validation(path: str) -> str | None:
    head, folder, name = Path(path).parents[1], Path(path).parent.name, Path(path).name
    for other in VALIDATION:
        for candidate in (
            head / folder / name.replace('train', other),
            head / folder.replace('train', other) / name,
            head / folder.replace('train', other) / name.replace('train', other),
        ):
            if str(candidate) != path and candidate.is_file():
                return str(candidate)
    return None


def _validation_split(path: str, images: str | None, classes: tuple[str, ...]) -> CocoSplit:
    content = _read(path)
    here = tuple(name for name in _named(content, path).values() if name in classes)
    if here != classes:
        raise InputError(
            f'{path!r} does not have the categories {", ".join(classes)} in this order, as the training '
            'annotations have: give both files the same categories'
        )
    return CocoSplit(path, _image_folder(content, path, images))


def _image_folder(content: Mapping[str, Any], path: str, images: str | None) -> str:
    """The folder from which the names of the images lead to files."""
    names = [one.get('file_name') for one in content['images']]
    if not all(isinstance(name, str) for name in names):
        raise InputError(f"{path!r}: every image needs a 'file_name': add it")
    tried = list(_folders(path, images))
    for folder in tried:
        if all((folder / name).is_file() for name in (names[0], names[-1])):
            return str(folder)
    raise InputError(
        f'image {names[0]!r} of {path!r} is in none of {", ".join(map(str, tried))}: give its folder by '
        '--images'
    )


def _folders(path: str, images: str | None) -> Iterator[Path]:
    here, stem = Path(path).parent, Path(path).stem
    split = stem.removeprefix('instances_').removesuffix('_annotations')
    if images is not None:
        folder = Path(os.path.realpath(images))
        yield from (folder, folder / split)
    for folder in (here, here.parent):
        yield from (folder, folder / 'images', folder / split, folder / 'images' / split)
