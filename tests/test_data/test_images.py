"""Images from every kind of source."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from asvit_mm.data.images import images as data
from asvit_mm.data.images import load_images
from asvit_mm.data.images.image_sets import DIGITS, write_image_set
from asvit_mm.errors import InputError

CONFIG = """
default_scope = 'mmpretrain'
data_preprocessor = dict(mean=[100, 110, 120], std=[50, 60, 70], to_rgb=True)
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        type='CustomDataset',
        data_root={root!r},
        data_prefix='train',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(16, 16)),
            dict(type='RandomCrop', crop_size=16, padding=4),
            dict(type='PackInputs'),
        ],
    ),
)
"""


@pytest.fixture(scope='module')
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_set(DIGITS, tmp_path_factory.mktemp('data') / 'digits')


def test_noise_is_standard_normal_and_decided_by_the_seed() -> None:
    images = load_images('noise', 32, 16, seed=(3, 1))
    assert images.shape == (16, 3, 32, 32)
    assert images.dtype == torch.float32
    assert abs(images.mean()) < 0.02
    assert abs(images.std() - 1) < 0.02
    assert torch.equal(images, load_images('noise', 32, 16, seed=(3, 1)))
    assert not torch.equal(images, load_images('noise', 32, 16, seed=(3, 2)))


def test_digits_are_written_and_normalised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    images = load_images('digits', 32, 200, seed=0)
    assert (tmp_path / 'data/digits/train').is_dir()
    assert images.shape == (200, 3, 32, 32)
    assert abs(images.mean()) < 0.1
    assert 0.8 < images.std() < 1.1
    assert torch.equal(images[:, 0], images[:, 2])


def test_folder_images_are_cropped_to_the_centre_and_normalised(tmp_path: Path) -> None:
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, 20:60] = (255, 0, 128)
    (tmp_path / 'deep' / 'down').mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / 'deep' / 'down' / 'wide.PNG')
    image = load_images(str(tmp_path), 40, 1, seed=0)[0]
    expected = (torch.tensor([255.0, 0, 128]) - torch.tensor(data.IMAGENET_MEAN)) / torch.tensor(
        data.IMAGENET_STD
    )
    assert torch.allclose(image, expected[:, None, None].expand(3, 40, 40), atol=1e-5)


def test_folder_images_are_drawn_without_replacement(digits: Path) -> None:
    images = load_images(str(digits / 'val'), 8, 360, seed=5)
    assert len(torch.unique(images.flatten(1), dim=0)) == 360
    assert torch.equal(images[:10], load_images(str(digits / 'val'), 8, 360, seed=5)[:10])


def test_config_images_pass_its_pipeline_and_normalisation(digits: Path, tmp_path: Path) -> None:
    config = tmp_path / 'config.py'
    config.write_text(CONFIG.format(root=str(digits)))
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    images = load_images(str(config), 16, 6, seed=(1, 2))
    assert images.shape == (6, 3, 16, 16)
    mean, std = torch.tensor([100.0, 110, 120]), torch.tensor([50.0, 60, 70])
    pixels = images * std[:, None, None] + mean[:, None, None]
    assert torch.allclose(pixels, pixels.round(), atol=1e-3)
    assert torch.allclose(pixels[:, 0], pixels[:, 2], atol=1e-3)
    assert torch.equal(images, load_images(str(config), 16, 6, seed=(1, 2)))
    assert load_images(str(config), 24, 6, seed=(1, 2)).shape == (6, 3, 24, 24)
    # The random crop must not disturb the caller's generators.
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert torch.equal(torch.get_rng_state(), states[2])


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda d: d / 'absent', 'no data at'),
        (lambda d: d / 'absent.py', 'does not exist'),
        (lambda d: _written(d / 'bad.py', 'model = dict('), 'cannot be read: SyntaxError'),
        (lambda d: _written(d / 'empty.py', 'x = 1'), "no 'train_dataloader'"),
        (
            lambda d: _written(d / 'det.py', "default_scope = 'mmdet'\ntrain_dataloader = dict()"),
            'of mmdet',
        ),
        (
            lambda d: _written(d / 'gone.py', CONFIG.format(root='/no/such')),
            "'/no/such' .* does not",
        ),
        (
            lambda d: _written(
                d / 'type.py', "train_dataloader = dict(dataset=dict(type='Nothing'))"
            ),
            'type.py.* cannot be read: KeyError',
        ),
        (lambda d: _written(d / 'image.txt', ''), 'is a file'),
        (lambda d: _written(d / 'sub' / 'x.txt', '').parent, 'no images in'),
        (lambda d: _written(d / 'sub' / 'x.png', 'not a picture').parent, 'x.png.* cannot be read'),
    ],
)
def test_bad_sources_get_one_clear_line(tmp_path: Path, make, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_images(str(make(tmp_path)), 8, 1, seed=0)
    assert '\n' not in str(caught.value)


def test_too_few_images_says_how_many(digits: Path) -> None:
    with pytest.raises(InputError, match='holds 360 images and 361 are needed'):
        load_images(str(digits / 'val'), 8, 361, seed=0)


def _written(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path
