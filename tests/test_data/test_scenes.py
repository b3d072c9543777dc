"""Scenes of digits: what is drawn is what is annotated."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from asvit_mm.data.image_sets import DIGITS, split_image_set
from asvit_mm.data.scenes import CLASSES, NUM_DIGITS, _main, write_scenes
from asvit_mm.errors import InputError

SETTINGS = dict(train=12, val=5, size=96, seed=3)


@pytest.fixture(scope='module')
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp('data') / 'scenes', **SETTINGS)


def read(root: Path, part: str) -> dict:
    return json.loads((root / 'annotations' / f'instances_{part}2017.json').read_text())


def test_images_boxes_and_masks_agree(scenes: Path) -> None:
    for part in ('train', 'val'):
        content = read(scenes, part)
        assert len(content['images']) == SETTINGS[part]
        assert [c['name'] for c in content['categories']] == list(CLASSES)
        for image in content['images']:
            with Image.open(scenes / f'{part}2017' / image['file_name']) as opened:
                assert opened.mode == 'RGB'
                assert opened.size == (96, 96)
            own = [a for a in content['annotations'] if a['image_id'] == image['id']]
            assert NUM_DIGITS[0] <= len(own) <= NUM_DIGITS[1]
            masks = [coco_mask.decode(a['segmentation']) for a in own]
            assert np.sum(masks, axis=0).max() == 1, 'digits overlap'
            classes = sum(a['category_id'] * mask for a, mask in zip(own, masks, strict=True))
            with Image.open(scenes / f'semantic/{part}2017' / image['file_name']) as opened:
                assert np.array_equal(opened, classes)
            for annotation, mask in zip(own, masks, strict=True):
                rows, columns = np.nonzero(mask)
                left, top = columns.min(), rows.min()
                box = [left, top, columns.max() + 1 - left, rows.max() + 1 - top]
                assert annotation['bbox'] == box
                assert annotation['area'] == mask.sum() > 0


def test_labels_are_scikit_learns_and_the_parts_have_no_digit_in_common(scenes: Path) -> None:
    _, labels, parts = split_image_set(DIGITS)
    for part in ('train', 'val'):
        for annotation in read(scenes, part)['annotations']:
            assert annotation['digit'] in parts[part]
            assert annotation['category_id'] == labels[annotation['digit']] + 1
    assert not set(parts['train']) & set(parts['val'])


def test_digits_are_drawn_where_the_masks_are_and_nowhere_else(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the same first scene with ink that cannot be seen."""

    def invisible(rng: np.random.Generator, place: np.ndarray, ink: np.ndarray) -> np.ndarray:
        rng.uniform(size=3)  # what a colour takes
        return place

    monkeypatch.setattr('asvit_mm.data.scenes._ink_over', invisible)
    blank = write_scenes(tmp_path / 'blank', **SETTINGS)
    for image in read(scenes, 'train')['images']:
        own, same = (
            [a for a in read(root, 'train')['annotations'] if a['image_id'] == image['id']]
            for root in (scenes, blank)
        )
        assert own == same
        drawn, empty = (
            np.asarray(Image.open(root / 'train2017' / image['file_name']), float)
            for root in (scenes, blank)
        )
        changed = np.abs(drawn - empty).max(2)
        near = np.zeros(changed.shape, bool)
        for annotation in own:
            ink = coco_mask.decode(annotation['segmentation']).astype(bool)
            assert changed[ink].mean() > 20
            x, y, w, h = (int(v) for v in annotation['bbox'])
            near[max(0, y - 24) : y + h + 24, max(0, x - 24) : x + w + 24] = True
        assert changed[~near].max(initial=0) == 0


def test_the_seed_decides_and_pycocotools_reads_it(scenes: Path, tmp_path: Path) -> None:
    again = write_scenes(tmp_path / 'again', **SETTINGS)
    files = sorted(p.relative_to(scenes) for p in scenes.rglob('*') if p.is_file())
    assert files == sorted(p.relative_to(again) for p in again.rglob('*') if p.is_file())
    assert all((scenes / f).read_bytes() == (again / f).read_bytes() for f in files)
    other = write_scenes(tmp_path / 'other', **{**SETTINGS, 'seed': 4})
    assert read(other, 'val') != read(scenes, 'val')
    coco = COCO(str(scenes / 'annotations' / 'instances_val2017.json'))
    assert coco.getCatIds(catNms=['three']) == [4]
    assert coco.annToMask(coco.loadAnns([1])[0]).shape == (96, 96)


def test_the_same_scenes_are_left_alone_and_others_refused(scenes: Path) -> None:
    before = {f: f.stat().st_mtime_ns for f in scenes.rglob('*')}
    assert write_scenes(scenes, **SETTINGS) == scenes
    with pytest.raises(InputError, match='exists and is not the complete scenes folder'):
        write_scenes(scenes, **{**SETTINGS, 'train': 13})
    assert before == {f: f.stat().st_mtime_ns for f in scenes.rglob('*')}


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['scenes.py', '--train', '2', '--val', '1'])
    _main()
    assert capsys.readouterr().out == 'data/scenes: 2 training and 1 held-out scenes\n'
    sys.argv += ['--size', '8']
    with pytest.raises(SystemExit, match='2'):
        _main()
    error = capsys.readouterr().err
    assert '--size 8 is too small: give at least 32' in error
    assert error.count('\n') == 1
    with pytest.raises(InputError, match='--seed -1 is too small'):
        write_scenes(tmp_path / 'new', seed=-1)
