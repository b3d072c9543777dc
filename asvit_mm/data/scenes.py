"""Write scenes of handwritten digits on photographs, laid out as COCO is, to train detectors and segmentors.

The digits are those that scikit-learn ships, the backgrounds crops of its two :mod:`photographs
<asvit_mm.data.photographs>`.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import InputError
from ..utils.command_line import check_values, make_tool, option, positional
from .image_sets import DIGITS, split_image_set, write_once
from .photographs import random_crop

ROOT = 'data/scenes'
# Words, since numbers would not survive a command line's list.
CLASSES = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
FOLDERS = {'train': 'train2017', 'val': 'val2017'}
SEMANTIC = 'semantic'
NUM_DIGITS = (2, 5)
# Side of a digit as a share of the scene's, and the ink from which a pixel belongs to its mask.
SIDES = (0.2, 0.4)
INK = 0.35
# Places that are drawn per scene; where too many overlap, the scene gets fewer digits.
TRIES = 20


@dataclass(frozen=True)
class SceneSettings:
    """The scenes that are written; an InputError if a number is too small or too large."""

    root: str = positional(default=ROOT, nargs='?')
    """the folder to write"""
    train: int = option(default=600, at_least=1, at_most=100_000)
    """number of scenes to train on"""
    val: int = option(default=120, at_least=1, at_most=100_000)
    """number of held-out scenes"""
    size: int = option(default=128, at_least=32, at_most=4096)
    """height and width of a scene in pixels"""
    seed: int = option(default=0, at_least=0)
    """of all random numbers, from 0 up"""

    def __post_init__(self) -> None:
        check_values(self)


def write_scenes(root: str | os.PathLike[str] = ROOT, **settings: int) -> Path:
    """Write ``root/{train2017,val2017}/NNNNNN.png`` and ``root/annotations/instances_{train,val}2017.json``.

    Every scene has two to five digits, each with its box and its mask (run-length encoded). For semantic
    segmentation, ``root/semantic/{train2017,val2017}/NNNNNN.png`` has the class of every pixel: 0 where no
    digit is, and one more than its place in :data:`CLASSES`. The two splits have no digit in
    common. A folder that holds the same scenes already is returned as it is.

    Args:
        settings: the other fields of :class:`SceneSettings`.

    Raises:
        InputError: a number that is too small, a missing package, or ``root`` holds something else or cannot
            be written.
    """
    checked = SceneSettings(str(root), **settings)
    info = {'description': 'handwritten digits on photographs', **asdict(checked)}
    del info['root']

    def is_complete(folder: Path) -> bool:
        try:
            content = json.loads(_annotation_file(folder, 'val').read_text())
            return bool(content.get('info') == info and (folder / SEMANTIC).is_dir())
        except (OSError, ValueError):
            return False

    def write(folder: Path) -> None:
        if find_spec('pycocotools') is None:
            raise InputError('masks are written by pycocotools: pip install pycocotools')
        (folder / 'annotations').mkdir()
        for split, content in _draw_splits(folder, checked):
            _annotation_file(folder, split).write_text(json.dumps({'info': info, **content}))

    return write_once(root, 'scenes', is_complete, write)


def _annotation_file(folder: Path, split: str) -> Path:
    return folder / 'annotations' / f'instances_{FOLDERS[split]}.json'


def _draw_splits(root: Path, settings: SceneSettings) -> Iterator[tuple[str, dict[str, Any]]]:
    """Write the images of each split; yields its name and its annotations as COCO has them."""
    pixels, labels, splits = split_image_set(DIGITS)
    size = settings.size
    for number, (split, count) in enumerate([('train', settings.train), ('val', settings.val)]):
        (root / FOLDERS[split]).mkdir()
        (root / SEMANTIC / FOLDERS[split]).mkdir(parents=True)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for i in range(count):
            rng = np.random.default_rng([settings.seed, number, i])
            scene, classes = random_crop(rng, size), np.zeros((size, size), np.uint8)
            name = f'{i:06d}.png'
            images.append({'id': i, 'file_name': name, 'height': size, 'width': size})
            for digit in _add_digits(rng, scene, classes, pixels, labels, splits[split]):
                annotations.append({'id': len(annotations) + 1, 'image_id': i, **digit})
            Image.fromarray(np.rint(scene).astype(np.uint8)).save(root / FOLDERS[split] / name)
            Image.fromarray(classes).save(root / SEMANTIC / FOLDERS[split] / name)
        categories = [{'id': i + 1, 'name': name} for i, name in enumerate(CLASSES)]
        yield split, {'images': images, 'annotations': annotations, 'categories': categories}


def _add_digits(
    rng: np.random.Generator,
    scene: np.ndarray,
    classes: np.ndarray,
    pixels: np.ndarray,
    labels: np.ndarray,
    indices: np.ndarray,
) -> list[dict[str, Any]]:
    """Draw digits on a scene, float64 (size, size, 3), and its classes, uint8 (size, size), in place.

    Returns:
        their annotations.
    """
    from pycocotools import mask as coco_mask

    size = len(scene)
    taken = np.zeros((size, size), bool)
    found: list[dict[str, Any]] = []
    wanted = rng.integers(NUM_DIGITS[0], NUM_DIGITS[1] + 1)
    for _ in range(TRIES):
        if len(found) == wanted:
            break
        side = round(size * rng.uniform(*SIDES))
        top, left = rng.integers(0, size - side + 1, 2)
        index = int(rng.choice(indices))
        place = np.s_[top : top + side, left : left + side]
        if taken[place].any():
            continue
        taken[place] = True
        digit = Image.fromarray(pixels[index]).resize((side, side), Image.Resampling.BICUBIC)
        ink = np.asarray(digit, np.float64) / 255
        scene[place] = _ink_over(rng, scene[place], ink)
        mask = np.zeros((size, size), np.uint8, order='F')
        mask[place] = ink > INK
        classes[mask.astype(bool)] = int(labels[index]) + 1
        encoded = coco_mask.encode(mask)
        found.append(
            {
                'category_id': int(labels[index]) + 1,
                'segmentation': {'size': [size, size], 'counts': encoded['counts'].decode()},
                'bbox': coco_mask.toBbox(encoded).tolist(),
                'area': float(coco_mask.area(encoded)),
                'iscrowd': 0,
                'digit': index,  # scikit-learn's, which the other split does not have
            }
        )
    return found


def _ink_over(rng: np.random.Generator, background: np.ndarray, ink: np.ndarray) -> np.ndarray:
    """Blend ``ink`` (0..1) over the background in a colour of another brightness."""
    dark = background.mean() > 110
    colour = rng.uniform(0, 90, 3) if dark else rng.uniform(165, 255, 3)
    return background * (1 - ink[..., None]) + colour * ink[..., None]


def _write(settings: SceneSettings) -> None:
    root = write_scenes(**asdict(settings))
    print(f'{root}: {settings.train} training and {settings.val} held-out scenes')


_, _main = make_tool(SceneSettings, _write, __doc__)

if __name__ == '__main__':
    _main()
