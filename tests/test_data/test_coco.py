"""Annotations in COCO's format: found, read, refused."""

import json

import numpy as np
import pytest
from PIL import Image

from asvit_mm.data.coco import is_coco, scan_coco
from asvit_mm.errors import InputError

CATEGORIES = [
    dict(id=7, name='cat'),
    dict(id=3, name='ghost'),
    dict(id=5, name='dog'),
]


def write_set(folder, split='train', *, masks=True, **changes):
    """Three images of 64 x 48 pixels with a cat and a dog each."""
    (folder / split).mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for i in range(3):
        Image.fromarray(np.full((48, 64, 3), 40 * i, np.uint8)).save(folder / split / f'{i}.png')
        images.append(dict(id=i, file_name=f'{i}.png', width=64, height=48))
        for category, side in ((7, 10), (5, 20 + i)):
            corners = [2, 2, 2 + side, 2, 2 + side, 2 + side]
            annotations.append(
                dict(
                    id=len(annotations),
                    image_id=i,
                    category_id=category,
                    bbox=[2, 2, side, side],
                    area=side**2 / 2,
                    iscrowd=0,
                    **({'segmentation': [corners]} if masks else {}),
                )
            )
    content = dict(images=images, annotations=annotations, categories=CATEGORIES, **{})
    path = folder / 'annotations' / f'instances_{split}.json'
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**content, **changes}))
    return path


def test_classes_sizes_and_the_validation_set_are_found(tmp_path):
    train, val = write_set(tmp_path), write_set(tmp_path, 'val')
    found = scan_coco(train)
    assert found.classes == ('cat', 'dog')  # in the order of the file, those with boxes
    assert '1 of 3 categories' in found.note
    assert found.val is not None
    assert (found.val.annotations, found.val.images) == (str(val), str(tmp_path / 'val'))
    assert found.train.images == str(tmp_path / 'train')
    assert (found.size, found.masks, len(found.files)) == ((64, 48), True, 3)
    assert (found.small_box, found.large_box) == pytest.approx((10, 22), abs=1)


def test_the_sides_of_two_boxes_are_not_extrapolated(tmp_path):
    boxes = [
        dict(id=i, image_id=0, category_id=7, bbox=[0, 0, s, s]) for i, s in ((1, 10), (2, 100))
    ]
    found = scan_coco(write_set(tmp_path, annotations=boxes))
    assert (found.small_box, found.large_box) == pytest.approx((19, 91))


def test_what_is_given_is_taken(tmp_path):
    train = write_set(tmp_path, masks=False)
    (tmp_path / 'train').rename(tmp_path / 'pictures')
    with pytest.raises(InputError, match=r"image '0.png' .* --images"):
        scan_coco(train)
    found = scan_coco(train, images=str(tmp_path / 'pictures'), classes=['dog'])
    assert (found.classes, found.masks, found.val) == (('dog',), False, None)
    assert found.train.images == str(tmp_path / 'pictures')


def test_a_folder_per_split(tmp_path):
    """As some services export it: train/_annotations.coco.json beside the images."""
    for split in ('train', 'valid'):
        write_set(tmp_path, split).rename(tmp_path / split / '_annotations.coco.json')
    found = scan_coco(tmp_path / 'train' / '_annotations.coco.json')
    assert found.val is not None
    assert found.val.images == str(tmp_path / 'valid')


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(categories=[]), "no 'categories'"),
        (dict(annotations=[dict(category_id=7)]), "no 'bbox'"),
        (dict(annotations=[dict(category_id=9, bbox=[0, 0, 1, 1])]), 'no box of any category'),
        (dict(images=[dict(id=0, file_name='0.png')]), "'width' and 'height'"),
        (dict(images=[dict(id=0, width=2, height=2)]), "'file_name'"),
        (dict(categories=[dict(id=7, name='cat'), dict(id=8, name='cat')]), 'same name'),
    ],
)
def test_what_cannot_be_trained_on_is_one_line(tmp_path, changes, message):
    with pytest.raises(InputError, match=message) as caught:
        scan_coco(write_set(tmp_path, **changes))
    assert '\n' not in str(caught.value)


def test_other_categories_to_validate_on_are_refused(tmp_path):
    train = write_set(tmp_path)
    write_set(tmp_path, 'val', categories=CATEGORIES[::-1])
    with pytest.raises(InputError, match='in this order'):
        scan_coco(train)
    with pytest.raises(InputError, match="no category 'bird'"):
        scan_coco(train, classes=['bird'])


def test_a_config_in_json_is_none(tmp_path):
    (tmp_path / 'config.json').write_text('{"model": {}}')
    assert not is_coco(tmp_path / 'config.json')
    assert not is_coco(tmp_path)
    assert is_coco(write_set(tmp_path))
