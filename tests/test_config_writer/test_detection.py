"""The backbone in Mask R-CNN: its windows, its cost, and the weights of a classifier that it loads."""

import itertools

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import save_checkpoint

from asvit_mm.arch import PRESETS, SPLIT_CHOICES, as_architecture
from asvit_mm.config_writer.configs import config_text
from asvit_mm.config_writer.detection import COCO_SIZE, detection_text, detection_windows
from asvit_mm.cost import count_macs, token_grids
from asvit_mm.data.source import describe_data
from asvit_mm.models import AsViT
from asvit_mm.utils.units import format_count

TINY = as_architecture('4,2,2,1|2,1,2,1|2,1,2,1|2,1,2,2|16,12')
SPLIT = as_architecture('4,8,2,1|2,4,2,1|2,2,2,1|2,1,2,1|16,12')


def read(arch, spec='digits'):
    return Config.fromstring(detection_text(arch, describe_data(spec, 32)), '.py')


def detector(cfg):
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(cfg.model)


def test_the_windows_are_those_of_pretraining():
    assert detection_windows(PRESETS['small']) == (28, 28, 14, 7)
    torch.manual_seed(0)
    image = torch.randn(1, 3, 224, 224)
    outputs = []
    for windows in (None, detection_windows(SPLIT)):
        torch.manual_seed(1)
        network = AsViT(SPLIT, out_indices=(0, 1, 2, 3), window_size=windows).eval()
        with torch.no_grad():
            outputs.append(network(image))
    for first, second in zip(*outputs, strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize('stride', [1, 2, 4])
def test_anchors_regions_and_windows_follow_the_stride(stride):
    arch = as_architecture(f'{SPLIT}/{stride}'.removesuffix('/4'))
    cfg = read(arch)
    strides = [stride * 2**i for i in range(5)]
    anchors, heads = cfg.model.rpn_head.anchor_generator, cfg.model.roi_head
    assert (anchors.strides, anchors.scales) == (strides, [32 // stride])
    assert heads.bbox_roi_extractor.featmap_strides == strides[:4]
    assert heads.mask_roi_extractor.featmap_strides == strides[:4]
    sides = [224 // stride // 2**i for i in range(4)]
    assert cfg.model.backbone.window_size == tuple(
        side // split for side, split in zip(sides, arch.splits, strict=True)
    )


def test_the_windows_tile_the_long_side_of_coco():
    for splits in itertools.product(*SPLIT_CHOICES):
        stages = '|'.join(f'4,{split},2,1' for split in splits)
        arch = as_architecture(f'{stages}|16,12')
        for (_, side), window in zip(token_grids(COCO_SIZE), detection_windows(arch), strict=True):
            assert side % window == 0


def test_it_takes_the_weights_of_the_classifier_beside_it(tmp_path):
    from mmpretrain.registry import MODELS as CLASSIFIERS

    data = describe_data('digits', 32)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        cfg = Config.fromstring(config_text(TINY, data), '.py')
        classifier = CLASSIFIERS.build(cfg.model)
    save_checkpoint({'state_dict': classifier.state_dict()}, str(tmp_path / 'weights.pth'))
    text = detection_text(TINY, data)
    # The line that the config has as a comment.
    line = next(line for line in text.splitlines() if 'init_cfg=' in line)
    text = text.replace(line, line.replace('# ', '')).replace(
        'CHECKPOINT.pth', str(tmp_path / 'weights.pth')
    )
    model = detector(Config.fromstring(text, '.py'))
    model.init_weights()
    trained = classifier.backbone.state_dict()
    loaded = model.backbone.state_dict()
    assert set(loaded) - set(trained) == {
        f'norm{i}.{p}' for i in range(3) for p in ('weight', 'bias')
    }
    assert all(torch.equal(loaded[name], value) for name, value in trained.items())


def test_the_header_has_the_cost():
    arch, text = SPLIT, detection_text(SPLIT, describe_data('noise', 32))
    with DefaultScope.overwrite_default_scope('mmdet'):
        backbone = MODELS.build(Config.fromstring(text, '.py').model.backbone)
    line = text.splitlines()[1]
    assert f' {sum(p.numel() for p in backbone.parameters()):,} parameters' in line
    macs = count_macs(arch, COCO_SIZE, window_size=detection_windows(arch))
    assert f' {format_count(macs)} multiply-adds' in line


def test_what_it_says_of_the_data():
    assert 'its classifier on digits' in detection_text(TINY, describe_data('digits', 32))
    assert 'its classifier' not in detection_text(TINY, describe_data('noise', 32))
    assert read(TINY).model.backbone.img_size == 32
    assert read(TINY, 'noise').model.backbone.img_size == 224
