"""Batches of images for the training-free measures."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from ..errors import InputError
from .image_sets import DIGITS, write_image_set

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif', '.tiff', '.webp')

Seed = int | Sequence[int]


def load_images(spec: str, img_size: int, count: int, seed: Seed) -> torch.Tensor:
    """Images to measure a network on, drawn without replacement and decided by ``seed`` alone.

    Args:
        spec: ``digits`` (training images; written to ``data/digits`` if missing), ``noise``
            (standard normal), the path of an image folder (searched in depth, no labels needed), or
            the path of an mmpretrain config (its training set through its pipeline and its
            normalisation). ``digits`` and ``noise`` win over a folder of that name, which is
            ``./noise`` then.
        img_size: height and width of the result, in pixels.
        count: how many images.
        seed: an integer or a sequence of integers.

    Returns:
        float32 (count, 3, img_size, img_size), normalised: digits by their own mean and deviation,
        a folder's images by ImageNet's, a config's by its ``data_preprocessor``.

    Raises:
        InputError: nothing at the path, no images, fewer than ``count``, an unreadable image or
            config.
    """
    if count < 1 or img_size < 1:
        raise InputError(f'asked for {count} images of {img_size} pixels: both must be at least 1')
    rng = np.random.default_rng(seed)
    if spec == 'noise':
        noise = rng.standard_normal((count, 3, img_size, img_size), dtype=np.float32)
        return torch.from_numpy(noise)
    if spec == 'digits':
        root = write_image_set(DIGITS) / 'train'
        mean, std = (DIGITS.mean,) * 3, (DIGITS.std,) * 3
        return _folder_images(root, img_size, count, rng, mean, std)
    path = Path(spec)
    if path.is_dir():
        return _folder_images(path, img_size, count, rng, IMAGENET_MEAN, IMAGENET_STD)
    if path.suffix in ('.py', '.json', '.yml', '.yaml'):
        return _config_images(path, img_size, count, rng)
    if path.is_file():
        raise InputError(f'{spec!r} is a file: give an image folder or an mmpretrain config (.py)')
    raise InputError(
        f'no data at {spec!r}: give digits, noise, an image folder or an mmpretrain config (.py)'
    )


def _draw(available: int, count: int, where: str, rng: np.random.Generator) -> list[int]:
    if available < count:
        raise InputError(
            f'{where} holds {available} images and {count} are needed (repeats x batch): '
            'give more images or lower --batch-size or --repeat'
        )
    return rng.choice(available, size=count, replace=False).tolist()


def _folder_images(
    root: Path,
    img_size: int,
    count: int,
    rng: np.random.Generator,
    mean: Sequence[float],
    std: Sequence[float],
) -> torch.Tensor:
    files = sorted(p for p in root.rglob('*') if p.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise InputError(f'no images in {str(root)!r} ({", ".join(IMAGE_SUFFIXES)})')
    images = np.stack(
        [_read_square(files[i], img_size) for i in _draw(len(files), count, f'{str(root)!r}', rng)]
    )
    images = (images - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def _read_square(file: Path, img_size: int) -> np.ndarray:
    """RGB pixels 0..255, float32 (img_size, img_size, 3): shorter side resized, centre cropped."""
    try:
        with Image.open(file) as opened:
            image = opened.convert('RGB')
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f'image {str(file)!r} cannot be read: {error}') from error
    scale = img_size / min(image.size)
    width, height = (max(img_size, round(side * scale)) for side in image.size)
    left, top = (width - img_size) // 2, (height - img_size) // 2
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    image = image.crop((left, top, left + img_size, top + img_size))
    return np.asarray(image, np.float32)


def _config_images(path: Path, img_size: int, count: int, rng: np.random.Generator) -> torch.Tensor:
    # The OpenMMLab stack takes seconds to import, and the other sources need none of it.
    from mmengine.registry import DefaultScope
    from mmpretrain.registry import DATASETS, MODELS

    from ..engine.config import check_classifier, check_data, load_config, require

    cfg = load_config(path)
    require(cfg, ['train_dataloader'], 'drawing images from a config')
    check_classifier(cfg, path)
    check_data(cfg, ['train_dataloader'])
    preprocessor_cfg = cfg.get('data_preprocessor') or cfg.get('model', {}).get('data_preprocessor')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        # What the user's dataset and pipeline raise is about the config, not about us.
        try:
            dataset = DATASETS.build(cfg.train_dataloader.dataset)
            preprocessor = MODELS.build(
                preprocessor_cfg or {}, default_args={'type': 'ClsDataPreprocessor'}
            )
            indices = _draw(len(dataset), count, f'the training set of {str(path)!r}', rng)
            with _seeded(int(rng.integers(2**31))):
                inputs = [dataset[i]['inputs'] for i in indices]
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f'the training set of {str(path)!r} cannot be read: {type(error).__name__}: '
                f'{" ".join(str(error).split())}'
            ) from error
    images = preprocessor({'inputs': inputs}, training=False)['inputs'].float()
    if images.shape[-2:] != (img_size, img_size):
        images = torch.nn.functional.interpolate(
            images, size=(img_size, img_size), mode='bicubic', antialias=True
        )
    return images.contiguous()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Random pipelines draw from the global generators: seed them, and put them back after."""
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
