"""Classes of datasets, of annotations and of heads that do not agree."""

import json
from types import SimpleNamespace

import pytest
from mmdet.datasets import CocoDataset
from torch import nn

from asvit_mm.engine.classes import check_categories_when_read, check_classes
from asvit_mm.errors import InputError

from ..small_detector import options, place
from ..test_coco_configs import SCENES
from ..test_tools.runs import Here

CLASSES = 'train_dataloader.dataset.metainfo.classes'


@pytest.fixture
def here(monkeypatch, capsys, tmp_path, scenes):
    place(scenes, tmp_path)
    return Here(monkeypatch, capsys, tmp_path)


@pytest.mark.parametrize(
    ('option', 'words'),
    [
        (f'{CLASSES}=(cat,dog)', 'three, four, ... (10) and the dataset the classes cat'),
        (f"{CLASSES}=(zero,one,cat)", "classes zero, one, cat: 'cat' is none of these: set"),
        ('model.roi_head.bbox_head.num_classes=3', 'model.roi_head.bbox_head has 3: set'),
        ('model.roi_head.mask_head.num_classes=9', 'model.roi_head.mask_head has 9: set'),
        (f'{CLASSES}=cat', "the classes cat: 'cat' is none of these"),
        (f'{CLASSES}=(one,zero)', 'the classes one, zero: they are in another order'),
    ],
)  # fmt: skip
def test_a_detector_of_other_classes(here, option, words):
    said = here.refusal('train.py', SCENES, '--no-validate', *options(option, option))
    assert words in said


def test_the_heads_of_a_cascade_are_checked():
    model, heads = nn.Module(), [nn.Identity() for _ in range(3)]
    model.roi_head = nn.Module()
    model.roi_head.bbox_head = nn.ModuleList(heads)
    for head, count in zip(heads, (3, 2, 3), strict=True):
        head.num_classes = count
    dataset = SimpleNamespace(metainfo={'classes': ('cat', 'dog', 'fox')})
    with pytest.raises(InputError, match=r'roi_head\.bbox_head\.1 has 2: set'):
        check_classes(model, dataset, 'train_dataloader')


def test_annotations_that_are_none(here):
    """Not JSON, not an object, and without categories."""
    for i, content in enumerate(('no json', '[]', json.dumps({'images': []}))):
        (here.folder / 'annotations.json').write_text(content)
        option = f'train_dataloader.dataset.ann_file={here.folder / "annotations.json"}'
        said = here.refusal('train.py', SCENES, '--no-validate', *options(f'none{i}', option))
        assert ('training failed' in said) == (i < 2)
    assert 'has the categories  and' in said


def test_labels_and_names_of_a_part_of_the_categories_agree(scenes, monkeypatch):
    """Without the check, mmdet numbers as the file does and names as the classes are written."""
    annotations = scenes / 'annotations/instances_train2017.json'
    names = {one['id']: one['name'] for one in json.loads(annotations.read_text())['categories']}

    def labels(*classes):
        dataset = CocoDataset(
            ann_file=str(annotations), metainfo=dict(classes=classes), pipeline=[],
            data_prefix=dict(img=''), test_mode=True,
        )  # fmt: skip
        return {names[key]: classes[label] for key, label in dataset.cat2label.items()}

    whole = CocoDataset.load_data_list
    monkeypatch.setattr(CocoDataset, 'load_data_list', getattr(whole, '__wrapped__', whole))
    assert labels('nine', 'two') == {'two': 'nine', 'nine': 'two'}
    check_categories_when_read()
    assert labels('two', 'nine') == {'two': 'two', 'nine': 'nine'}
    with pytest.raises(InputError, match='nine, two: they are in another order, and mmdet would'):
        labels('nine', 'two')
    assert 'COCOAPI' not in vars(CocoDataset(ann_file=str(annotations), lazy_init=True))
