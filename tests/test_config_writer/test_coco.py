"""Detectors on one's own annotations: what is filled in, and that mmdet builds and reads it."""

import pytest
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope

from asvit_mm.arch import PRESETS, as_architecture
from asvit_mm.config_writer.coco import coco_text, plan_detection
from asvit_mm.data.coco import CocoScan, CocoSplit, scan_coco

from ..test_data.test_coco import write_set

TINY = as_architecture('4,2,2,1|2,1,2,1|2,1,2,1|2,1,2,2|16,12')


def plan(size=(640, 480), small=40.0, images=300, params=2_000_000, **given):
    files = tuple(map(str, range(images)))
    split = CocoSplit('train.json', '.')
    return plan_detection(
        CocoScan(split, None, ('a', 'b'), files, size, small, 4 * small, True, ''), params, **given
    )


@pytest.mark.parametrize('masks', [True, False])
def test_everything_is_filled_in_and_read_by_mmdet(tmp_path, masks):
    for split in ('train', 'val'):
        write_set(tmp_path, split, masks=masks)
    scan = scan_coco(tmp_path / 'annotations' / 'instances_train.json')
    cfg = Config.fromstring(coco_text(TINY, scan), '.py')
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
        train, val = (DATASETS.build(cfg[f'{s}_dataloader'].dataset) for s in ('train', 'val'))
        sample = train[0]
    assert (type(model).__name__, len(val)) == ('MaskRCNN' if masks else 'FasterRCNN', 3)
    assert train.metainfo['classes'] == ['cat', 'dog']
    assert model.roi_head.bbox_head.num_classes == 2
    assert [conv.conv.in_channels for conv in model.neck.lateral_convs] == list(TINY.widths)
    assert sorted(sample['data_samples'].gt_instances.labels.tolist()) == [0, 1]
    assert sample['inputs'].shape == (3, 48, 64)
    assert cfg.val_evaluator.ann_file == str(tmp_path / 'annotations' / 'instances_val.json')
    assert ('segm' in cfg.val_evaluator.metric) == masks


def test_without_a_validation_set(tmp_path):
    text = coco_text(TINY, scan_coco(write_set(tmp_path)))
    cfg = Config.fromstring(text, '.py')
    assert cfg.val_cfg is None
    assert 'Nothing to validate on' in text


def test_anchors_begin_at_the_small_boxes_whatever_the_stride_of_the_tokens(tmp_path):
    scan = scan_coco(write_set(tmp_path))
    for arch, scale, strides in (
        (TINY, 2, [4, 8, 16, 32, 64]),
        (f'{TINY}/2', 4, [2, 4, 8, 16, 32]),
    ):
        model = Config.fromstring(coco_text(as_architecture(arch), scan), '.py').model
        anchors = model.rpn_head.anchor_generator
        assert (anchors.scales, anchors.strides) == ([scale], strides)


def test_sizes_follow_the_images_and_the_boxes():
    assert plan().scale == (640, 480)
    assert plan(size=(480, 640)).scale == (640, 480)
    assert plan(size=(4000, 3000)).scale == (1333, 800)
    assert plan(size=(128, 96), small=6.0).scale == (256, 192)
    assert plan(long_side=320).scale == (320, 240)
    assert [plan(small=s).anchor_side for s in (4.0, 13.0, 40.0)] == [8, 12, 32]


def test_length_and_width_follow_the_data_and_the_network():
    assert [plan(images=n).epochs for n in (20, 300, 100_000)] == [100, 40, 12]
    assert (plan(epochs=3).epochs, plan(batch_size=8).batch_size) == (3, 8)
    assert [plan(params=n).channels for n in (2_000_000, 9_000_000, 30_000_000)] == [64, 128, 256]


def test_weights_bring_their_own_mean(tmp_path):
    scan = scan_coco(write_set(tmp_path))
    given = dict(mean=[1.0] * 3, std=[2.0] * 3)
    cfg = Config.fromstring(coco_text(PRESETS['seed'], scan, normalization=given), '.py')
    assert cfg.model.data_preprocessor.mean == given['mean']
