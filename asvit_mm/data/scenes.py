"""Scenes to detect handwritten digits in, composed of real images and written as COCO is.

Digits are those of :data:`asvit_mm.data.image_sets.DIGITS`, backgrounds crops of the two photographs that
scikit-learn ships (china.jpg and flower.jpg; CC BY 2.0, danielbuechele and vultilion on flickr).

``python -m asvit_mm.data.scenes [ROOT]`` writes them.
"""

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import InputError, one_line_errors
from ..utils.files import atomic_directory
from .image_sets import DIGITS, split_image_set

ROOT = 'data/scenes'
TRAIN, VAL, SIZE = 600, 120, 128
# Words, since numbers would not survive a command line's list.
CLASSES = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
FOLDERS = {'train': 'train2017', 'val': 'val2017'}
NUM_DIGITS = (2, 5)
# A digit's side as a share of the scene's, and where its ink begins, as a share of the full ink.
SIDES = (0.2, 0.4)
INK = 0.35
TRIES = 20
SETTINGS = 'scenes.json'


def write_scenes(
    root: str | os.PathLike[str] = ROOT,
    *,
    train: int = TRAIN,
    val: int = VAL,
    size: int = SIZE,
    seed: int = 0,
) -> Path:
    """Write ``root/{train2017,val2017}/NNNNNN.png`` and ``root/annotations/instances_{train,val}2017.json``.

    Every scene has two to five digits, each with its box and its mask (run-length encoded). The two parts
    have no digit in common. Nothing is downloaded, and a folder that holds the same scenes already is
    returned as it is.

    Args:
        train, val: scenes of each part.
        size: pixels a side.
        seed: from 0 up; decides everything.

    Raises:
        InputError: a number that is too small, scikit-learn or pycocotools are missing, or
            ``root`` holds something else or cannot be written.
    """
    if train < 1 or val < 1 or size < 32 or seed < 0:
        raise InputError(
            'give at least 1 scene of each part, at least 32 pixels a side and a seed from 0 up'
        )
    root = Path(root)
    settings = {'train': train, 'val': val, 'size': size, 'seed': seed}
    if _holds(root, settings):
        return root
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InputError(
            f'{str(root)!r} exists and has not these scenes: remove it or name another'
        )
    if find_spec('pycocotools') is None:
        raise InputError('masks are written by pycocotools: pip install pycocotools')
    pixels, labels, parts = split_image_set(DIGITS)
    photographs = _photographs()
    try:
        with atomic_directory(root) as temporary:
            (temporary / 'annotations').mkdir()
            for number, (part, count) in enumerate((('train', train), ('val', val))):
                (temporary / FOLDERS[part]).mkdir()
                images: list[dict[str, Any]] = []
                annotations: list[dict[str, Any]] = []
                for i in range(count):
                    rng = np.random.default_rng([seed, number, i])
                    scene, found = _compose(rng, photographs, pixels, labels, parts[part], size)
                    name = f'{i:06d}.png'
                    Image.fromarray(scene).save(temporary / FOLDERS[part] / name)
                    images.append({'id': i, 'file_name': name, 'height': size, 'width': size})
                    for one in found:
                        annotations.append({'id': len(annotations) + 1, 'image_id': i, **one})
                content = {
                    'info': {'description': 'handwritten digits on photographs', **settings},
                    'images': images,
                    'annotations': annotations,
                    'categories': [{'id': i + 1, 'name': name} for i, name in enumerate(CLASSES)],
                }
                path = temporary / 'annotations' / f'instances_{FOLDERS[part]}.json'
                path.write_text(json.dumps(content))
            (temporary / SETTINGS).write_text(json.dumps(settings))
    except OSError as error:
        # Another process wrote the same scenes meanwhile; only other ones are an error.
        if _holds(root, settings):
            return root
        raise InputError(
            f'the scenes cannot be written to {str(root)!r} ({error.strerror or error}): run it in a '
            'folder that you can write to'
        ) from None
    return root


def _holds(root: Path, settings: dict[str, int]) -> bool:
    try:
        return bool(json.loads((root / SETTINGS).read_text()) == settings)
    except (OSError, json.JSONDecodeError):
        return False


def _photographs() -> list[Image.Image]:
    from sklearn.datasets import load_sample_images

    return [Image.fromarray(image) for image in load_sample_images().images]


def _compose(
    rng: np.random.Generator,
    photographs: list[Image.Image],
    pixels: np.ndarray,
    labels: np.ndarray,
    indices: np.ndarray,
    size: int,
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """One scene, uint8 (size, size, 3), and its annotations."""
    from pycocotools import mask as coco_mask

    scene = _background(rng, photographs, size)
    taken = np.zeros((size, size), bool)
    found: list[dict[str, Any]] = []
    wanted = rng.integers(NUM_DIGITS[0], NUM_DIGITS[1] + 1)
    for _ in range(TRIES):
        if len(found) == wanted:
            break
        side = round(size * rng.uniform(*SIDES))
        top, left = rng.integers(0, size - side + 1, 2)
        index = rng.choice(indices)
        place = np.s_[top : top + side, left : left + side]
        if taken[place].any():
            continue
        digit = Image.fromarray(pixels[index]).resize((side, side), Image.Resampling.BICUBIC)
        ink = np.asarray(digit, np.float64) / 255
        taken[place] = True
        scene[place] = _written(rng, scene[place], ink)
        mask = np.zeros((size, size), np.uint8)
        mask[place] = ink > INK
        encoded = coco_mask.encode(np.asfortranarray(mask))
        found.append(
            {
                'category_id': int(labels[index]) + 1,
                'segmentation': {
                    'size': [size, size],
                    'counts': encoded['counts'].decode('ascii'),
                },
                'bbox': coco_mask.toBbox(encoded).tolist(),
                'area': float(coco_mask.area(encoded)),
                'iscrowd': 0,
                # scikit-learn's number of the digit, which no other part has.
                'digit': int(index),
            }
        )
    return np.rint(scene).astype(np.uint8), found


def _background(rng: np.random.Generator, photographs: list[Image.Image], size: int) -> np.ndarray:
    photograph = photographs[rng.integers(len(photographs))]
    width, height = photograph.size
    side = int(rng.integers(min(size, height) // 2, height + 1))
    left = int(rng.integers(0, width - side + 1))
    top = int(rng.integers(0, height - side + 1))
    box = (left, top, left + side, top + side)
    resized = photograph.resize((size, size), Image.Resampling.BICUBIC, box=box)
    return np.asarray(resized, np.float64).copy()


def _written(rng: np.random.Generator, background: np.ndarray, ink: np.ndarray) -> np.ndarray:
    """``ink`` in a colour that stands out from the background by its brightness."""
    dark = background.mean() > 110
    colour = rng.uniform(0, 90, 3) if dark else rng.uniform(165, 255, 3)
    return background * (1 - ink[..., None]) + colour * ink[..., None]


def _main() -> None:
    import argparse

    parser = argparse.ArgumentParser(
        description='Write scenes of handwritten digits on photographs, as COCO is laid out.'
    )
    shown = '(default: %(default)s)'
    parser.add_argument('root', nargs='?', default=ROOT, help=shown)
    parser.add_argument('--train', type=int, default=TRAIN, help=f'scenes to train on {shown}')
    parser.add_argument('--val', type=int, default=VAL, help=f'scenes held out {shown}')
    parser.add_argument('--size', type=int, default=SIZE, help=f'pixels a side {shown}')
    parser.add_argument('--seed', type=int, default=0, help=shown)
    args = parser.parse_args()
    with one_line_errors():
        root = write_scenes(**vars(args))
        print(f'{root}: {args.train} training and {args.val} held-out scenes')


if __name__ == '__main__':
    _main()
