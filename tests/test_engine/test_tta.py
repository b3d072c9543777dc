"""Test-time augmentation of a detector: boxes of an image and of its mirror image, merged."""

import pickle

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope

from asvit_mm.data.scenes import write_scenes
from asvit_mm.engine.arguments import EvaluateSettings
from asvit_mm.engine.runner import _enable_tta
from asvit_mm.errors import InputError

from ..small_detector import SIZE, TRAIN, VAL, options, place
from ..test_coco_configs import SCENES
from ..test_tools.runs import Here

BOXES = ['model.roi_head.mask_head=None', 'test_evaluator.metric=bbox']


@pytest.fixture
def here(monkeypatch, capsys, tmp_path):
    place(write_scenes(tmp_path / 'own', train=TRAIN, val=VAL, size=SIZE), tmp_path)
    here = Here(monkeypatch, capsys, tmp_path)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        detector = MODELS.build(Config.fromfile(SCENES).model)
    torch.save({'state_dict': detector.state_dict()}, 'x.pth')
    return here


def test_merged_boxes_are_those_of_the_image_and_of_its_mirror_image(here):
    def boxes(name, *args, flipped=None):
        cfg = Config.fromfile(SCENES)
        if flipped:
            steps = cfg.test_dataloader.dataset.pipeline
            steps.insert(-1, dict(type='mmdet.RandomFlip', prob=1.0))
        cfg.dump(f'{name}.py')
        here.run(
            *('test.py', f'{name}.py', 'x.pth', '--work-dir', 'w', '--out', f'{name}.pkl', *args),
            *options(name, *BOXES),
        )
        found = pickle.loads((here.folder / f'{name}.pkl').read_bytes())
        return [one['pred_instances']['bboxes'] for one in found]

    merged, plain, mirrored = (
        boxes('merged', '--tta'), boxes('plain'), boxes('mirrored', flipped=True)
    )  # fmt: skip
    back = [
        torch.stack([SIZE - one[:, 2], one[:, 1], SIZE - one[:, 0], one[:, 3]], 1)
        for one in mirrored
    ]
    taken = [0, 0]
    for one, *sources in zip(merged, plain, back, strict=True):
        near = torch.stack([torch.cdist(one, source).amin(1) < 0.1 for source in sources])
        assert near.any(0).all()
        taken = [count + int(hits.sum()) for count, hits in zip(taken, near, strict=True)]
    assert min(taken) > 0


def test_masks_are_refused(here):
    line = here.refusal('test.py', SCENES, 'x.pth', '--work-dir', 'w', '--tta', *options('masks'))
    assert 'mmdet merges boxes, not masks: leave it out, or test the boxes alone by' in line


@pytest.mark.parametrize('head', ['roi_head', 'mask_head', 'panoptic_head'])
def test_masks_are_left_to_a_model_of_the_config(head):
    cfg = Config.fromfile(SCENES)
    if head != 'roi_head':
        cfg.model.pop('roi_head')
        cfg.model[head] = dict(type='Some')
    args = EvaluateSettings(config=str(SCENES), checkpoint='x.pth', tta=True)
    with pytest.raises(InputError, match='not masks'):
        _enable_tta(cfg, args)
    cfg.tta_model = dict(type='MergesMasks')
    _enable_tta(cfg, args)
    assert cfg.model.type == 'MergesMasks'
