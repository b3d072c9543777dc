"""Classes of datasets, of annotations and of heads that do not agree."""

import json
from types import SimpleNamespace

import pytest
from torch import nn

from asvit_mm.engine.classes import check_classes
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
        (f"{CLASSES}=(zero,one,cat)", "classes zero, one, cat, of which 'cat' is none of these: set"),
        ('model.roi_head.bbox_head.num_classes=3', 'model.roi_head.bbox_head has 3: set'),
        ('model.roi_head.mask_head.num_classes=9', 'model.roi_head.mask_head has 9: set'),
        (f'{CLASSES}=cat', 'classes'),
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
        assert 'training failed' in said
