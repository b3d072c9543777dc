"""Images from every kind of source."""

import io
import random
import re
from pathlib import Path

import cv2
import mmcv
import numpy as np
import pytest
import torch
from PIL import Image

from asvit_mm.data import images as data
from asvit_mm.data.image_sets import DIGITS, write_image_set
from asvit_mm.data.images import load_images, read_image
from asvit_mm.errors import InputError

CONFIG = """
default_scope = 'mmpretrain'
data_preprocessor = dict(num_classes=10, mean=[100, 110, 120], std=[50, 60, 70], to_rgb=True)
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


def test_photographs_are_natural_and_decided_by_the_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neighbouring pixels are alike, whatever the size; nothing is written."""
    monkeypatch.chdir(tmp_path)
    for size in (32, 224):
        images = load_images('photographs', size, 16, seed=(3, 1))
        assert images.shape == (16, 3, size, size)
        neighbours = torch.stack([images[..., 1:].flatten(), images[..., :-1].flatten()])
        assert torch.corrcoef(neighbours)[0, 1] > 0.8
        assert len(torch.unique(images.flatten(1), dim=0)) == 16
        assert torch.equal(images, load_images('photographs', size, 16, seed=(3, 1)))
    assert not torch.equal(images, load_images('photographs', 224, 16, seed=(3, 2)))
    assert list(tmp_path.iterdir()) == []


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
    text = CONFIG.format(root=str(digits))
    config.write_text(text)
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
    grey = text.replace("'LoadImageFromFile'", "'LoadImageFromFile', color_type='grayscale'")
    grey = re.sub('mean=.*?to_rgb=True', 'mean=[100], std=[50]', grey)
    config.write_text(grey)
    with pytest.raises(InputError, match='have 1 channels, and its model takes 3'):
        load_images(str(config), 16, 6, seed=0)
    config.write_text(grey + 'model = dict(backbone=dict(in_channels=1))')
    assert load_images(str(config), 16, 6, seed=0).shape == (6, 1, 16, 16)


def test_a_config_that_draws_no_images_is_one_line(tmp_path):
    head = 'data_preprocessor = dict(num_classes=10)\n'
    for text, message in (
        ('model = dict(', 'cannot be read: SyntaxError'),
        (head, "no 'train_dataloader'"),
        ("default_scope = 'mmdet'", 'of mmdet'),
        (CONFIG.format(root='/no/such'), "'/no/such' .* does not"),
        (
            f"{head}train_dataloader = dict(dataset=dict(type='Nothing'))",
            "type = 'Nothing' is not known",
        ),
    ):
        (tmp_path / 'bad.py').write_text(text)
        with pytest.raises(InputError, match=message) as caught:
            load_images(tmp_path / 'bad.py', 8, 1, seed=0)
        assert '\n' not in str(caught.value)


def saved(image, kind, **options):
    """The bytes of a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pictures():
    """Files of every kind of pixels, by name."""
    rng = np.random.default_rng(0)
    rgba = Image.fromarray(rng.integers(0, 256, (6, 8, 4), dtype=np.uint8))
    rgb = rgba.convert('RGB').resize((32, 16))
    deep = np.linspace(0, 2**16 - 1, 48).astype(np.uint16).reshape(6, 8)
    palette = rgba.convert('RGB').convert('P', palette=Image.Palette.ADAPTIVE)
    turned = Image.Exif()
    turned[0x112] = 6
    yield 'alpha.png', saved(rgba, 'PNG')
    yield 'grey-alpha.png', saved(rgba.convert('LA'), 'PNG')
    yield 'bits.png', saved(rgba.convert('1'), 'PNG')
    yield 'palette.png', saved(palette, 'PNG', transparency=b'\0\x80')
    yield 'cmyk.jpg', saved(rgb.convert('CMYK'), 'JPEG')
    for suffix in ('png', 'tif', 'pgm'):
        yield f'16-bit.{suffix}', cv2.imencode(f'.{suffix}', deep)[1].tobytes()
    yield '16-bit-colours.png', cv2.imencode('.png', np.stack([deep] * 3, 2))[1].tobytes()
    for kind, suffix in (('JPEG', 'jpg'), ('PNG', 'png'), ('WEBP', 'webp'), ('TIFF', 'tiff')):
        yield f'turned.{suffix}', saved(rgb, kind, exif=turned)


def test_images_are_measured_as_they_are_trained_on(tmp_path):
    for name, content in pictures():
        (tmp_path / name).write_bytes(content)
        trained = mmcv.imread(str(tmp_path / name), channel_order='rgb')
        measured = np.asarray(read_image(tmp_path / name))
        # Decoders round colour conversions differently.
        np.testing.assert_allclose(measured, trained, atol=2, err_msg=name)


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (b'no picture', 'none of BMP, JPEG'),
        (b'P6 8', 'header'),
        (saved(Image.new('RGB', (64, 64)), 'PNG')[:60], ''),
        (b'P6 30000 30000 255\n', 'exceeds limit'),
        (b'P6 9500 9500 255\n', 'exceeds limit'),
        (saved(Image.new('L', (15000, 1)), 'PNG'), '15000 x 1 pixels, an aspect ratio above 100'),
        (saved(Image.new('F', (8, 8)), 'TIFF'), 'floating-point pixels'),
        (saved(Image.new('I', (8, 8), 2**20), 'TIFF'), '32-bit pixels'),
    ],
    ids=range(8),
)
def test_an_image_that_cannot_be_used_is_named(tmp_path, content, reason):
    (tmp_path / 'x.png').write_bytes(content)
    with pytest.raises(InputError, match=rf"x\.png' cannot be read.*{reason}.*repair") as caught:
        load_images(tmp_path, 8, 1, seed=0)
    assert '\n' not in str(caught.value)


def test_too_few_images_says_how_many(digits: Path) -> None:
    with pytest.raises(InputError, match='holds 360 images and 361 are needed'):
        load_images(str(digits / 'val'), 8, 361, seed=0)
