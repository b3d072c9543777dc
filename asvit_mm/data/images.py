"""Batches of images to measure networks on."""

import os
import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import InputError
from .folder import FolderScan, scan_folder
from .image_sets import DIGITS, write_image_set
from .photographs import random_crop
from .source import DataSource, describe_data

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
# Pillow tells a format by the content; these are the formats of the suffixes that count as images.
FORMATS = ('BMP', 'JPEG', 'PNG', 'PPM', 'TIFF', 'WEBP')
# Longer over shorter side. An image is resized by its shorter side, so a thin one would become huge.
MAX_ASPECT = 100
# Of all images together, 3.2 GB as float32.
MAX_PIXELS = 2**28
# As many images show the channels' mean and deviation to about one level.
STATISTICS_IMAGES = 128

Seed = int | Sequence[int]


def load_images(
    data: DataSource | str | os.PathLike[str], img_size: int, count: int, seed: Seed
) -> torch.Tensor:
    """Images to measure a network on, drawn without replacement; ``seed`` alone determines which.

    Digits are written to ``data/digits`` if they are not there, ``photographs`` are random crops, ``noise``
    is standard normal, and the images of a config are those of its training set after its pipeline.

    Args:
        data: a source, or what :func:`~asvit_mm.data.source.describe_data` takes.
        img_size: height and width of the result, in pixels.

    Returns:
        float32 (count, channels, img_size, img_size), normalised: digits by their own mean and deviation, a
        folder's images and crops of photographs by ImageNet's, a config's by its ``data_preprocessor``.

    Raises:
        InputError: no such data, fewer than ``count`` images, more than ``MAX_PIXELS``, or an image or config
            that cannot be read.
    """
    if count < 1 or img_size < 1:
        raise InputError(f'asked for {count} images of {img_size} pixels: both must be at least 1')
    if count * img_size**2 > MAX_PIXELS:
        raise InputError(
            f'{count} images of {img_size} pixels a side are more than fit into memory: give a smaller '
            '--img-size, --batch-size or --repeat'
        )
    if not isinstance(data, DataSource):
        data = describe_data(data, img_size)
    rng = np.random.default_rng(seed)
    if data.config is not None:
        given = _config_images(data.spec, data.config, img_size, count, rng)
        if given.shape[1] != data.in_channels:
            raise InputError(
                f'the images of {data.spec!r} have {given.shape[1]} channels, and its model takes '
                f'{data.in_channels}: set model.backbone.in_channels'
            )
        return given
    folder, mean, std = data.folder, IMAGENET_MEAN, IMAGENET_STD
    images: np.ndarray
    if data.kind == 'digits':
        folder = scan_folder(str(write_image_set(DIGITS)))
        mean, std = (DIGITS.mean,) * 3, (DIGITS.std,) * 3
    if folder is None and data.spec == 'noise':
        noise = rng.standard_normal((count, 3, img_size, img_size), dtype=np.float32)
        return torch.from_numpy(noise)
    if folder is None:
        images = np.stack([np.float32(random_crop(rng, img_size)) for _ in range(count)])
    else:
        drawn = _draw(len(folder.files), count, repr(folder.path), rng)
        files = [os.path.join(folder.path, folder.files[i]) for i in drawn]
        images = np.stack([_read_square(file, img_size) for file in files])
    images = (images - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()  # (N, 3, height, width)


def channel_statistics(folder: FolderScan) -> dict[str, list[float]]:
    """Those of the images of a folder; see :func:`channel_statistics_of`."""
    return channel_statistics_of(tuple(os.path.join(folder.path, file) for file in folder.files))


@lru_cache(maxsize=8)
def channel_statistics_of(files: tuple[str, ...]) -> dict[str, list[float]]:
    """``mean`` and ``std`` of the RGB channels of images, 0..255, to one digit.

    Of up to ``STATISTICS_IMAGES`` images, evenly spaced; ImageNet's where none can be read or they hold a
    single colour.
    """
    means, squares = [], []
    for file in files[:: -(-len(files) // STATISTICS_IMAGES)]:
        try:
            pixels = np.asarray(read_image(file), np.float64).reshape(-1, 3)
        except InputError:
            continue  # named by whoever needs it
        means.append(pixels.mean(0))
        squares.append((pixels**2).mean(0))
    mean = np.mean(means or [IMAGENET_MEAN], axis=0)
    std = np.sqrt(np.maximum(np.mean(squares or [mean**2], axis=0) - mean**2, 0))
    if std.min() < 1:
        return {'mean': list(IMAGENET_MEAN), 'std': list(IMAGENET_STD)}
    return {'mean': mean.round(1).tolist(), 'std': std.round(1).tolist()}


def _draw(available: int, count: int, where: str, rng: np.random.Generator) -> list[int]:
    if available < count:
        raise InputError(
            f'{where} holds {available} images and {count} are needed (repeats x batch): '
            'give more images or lower --batch-size or --repeat'
        )
    return rng.choice(available, size=count, replace=False).tolist()


def read_image(file: str | os.PathLike[str]) -> Image.Image:
    """An image as RGB, as mmcv reads it for training: upright, transparency dropped, 16 bits cut to 8.

    Raises:
        InputError: no image, a damaged one, more than Pillow's limit of 89 million pixels, a side more than
            ``MAX_ASPECT`` times the other, or 32-bit pixels; names the file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('error', Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                if max(image.size) > MAX_ASPECT * min(image.size):
                    raise ValueError(
                        f'{image.width} x {image.height} pixels, an aspect ratio above {MAX_ASPECT}'
                    )
                return _as_rgb(image)
    # Pillow raises exceptions of many types for a damaged file.
    except Exception as error:
        unknown = isinstance(error, UnidentifiedImageError)
        reason = f'none of {", ".join(FORMATS)}' if unknown else ' '.join(str(error).split())
        raise InputError(
            f'image {os.fspath(file)!r} cannot be read ({reason}): repair or remove it'
        ) from error


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.format != 'WEBP':  # whose orientation OpenCV, and so mmcv, does not read
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith('I'):  # grey, 16 bits or, if it is 'I', perhaps 32
        levels = np.asarray(image)
        if levels.min() < 0 or levels.max() >= 2**16:
            raise ValueError('32-bit pixels')
        return Image.fromarray((levels // 256).astype(np.uint8)).convert('RGB')
    if image.mode == 'F':
        raise ValueError('floating-point pixels')
    if 'transparency' in image.info:
        image = image.convert('RGBA')
    return image.convert('RGB')


def _read_square(file: str, img_size: int) -> np.ndarray:
    """RGB pixels 0..255, float32 (img_size, img_size, 3): shorter side resized, centre cropped."""
    image = read_image(file)
    scale = img_size / min(image.size)
    width, height = (max(img_size, round(side * scale)) for side in image.size)
    left, top = (width - img_size) // 2, (height - img_size) // 2
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    image = image.crop((left, top, left + img_size, top + img_size))
    return np.asarray(image, np.float32)


def _config_images(
    path: str, config: Any, img_size: int, count: int, rng: np.random.Generator
) -> torch.Tensor:
    # The OpenMMLab stack takes seconds to import, and the other sources need none of it.
    from mmengine.registry import DefaultScope
    from mmpretrain.registry import DATASETS, MODELS

    from ..engine.config import check_data, preprocessor_settings, require
    from ..engine.failures import explain

    require(config, ['train_dataloader'], 'drawing images from a config')
    check_data(config, ['train_dataloader'])
    preprocessing = preprocessor_settings(config)
    # Whatever the user's dataset and pipeline raise is an error of the config.
    try:
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            dataset = DATASETS.build(config.train_dataloader.dataset)
            preprocessor = MODELS.build({'type': 'ClsDataPreprocessor', **preprocessing})
        indices = _draw(len(dataset), count, f'the training set of {path!r}', rng)
        with _seeded(int(rng.integers(2**31))):
            inputs = [dataset[i]['inputs'] for i in indices]
        images = preprocessor({'inputs': inputs}, training=False)['inputs'].float()
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f'the training set of {path!r} cannot be read: {explain(error, config._cfg_dict)}'
        ) from error
    if images.shape[-2:] != (img_size, img_size):
        images = torch.nn.functional.interpolate(
            images, size=(img_size, img_size), mode='bicubic', antialias=True
        )
    return images.contiguous()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Random pipelines draw from the global generators: seed them, and restore them afterwards."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
