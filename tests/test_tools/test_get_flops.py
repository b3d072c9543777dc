"""tools/analysis_tools/get_flops.py run as users do."""

import json
from pathlib import Path

import pytest

from asvit_mm.analysis.flops import (
    black_image,
    count_by_module,
    count_prediction,
    detect,
    keep_all_scores,
)
from asvit_mm.arch import PRESETS
from asvit_mm.cost import count_macs, count_params, stage_macs
from asvit_mm.engine.models import build_model, load_model_config

CONFIGS = Path(__file__).parents[2] / 'configs'
DIGITS = CONFIGS / 'digits/asvit-seed_b64-progressive_digits.py'
RETINANET = CONFIGS / 'coco/retinanet_asvit-s_fpn_1x_coco.py'
# Four maps for a neck of three.
MAPS = 'model.backbone.out_indices=(0,1,2,3)'
TOOL = 'analysis_tools/get_flops.py'


def counted(here, *args):
    out = here.run(TOOL, *args, '--json', 'found.json')
    assert 'written: found.json' in out
    found = json.loads((here.folder / 'found.json').read_text())
    outer = [row for row in found['modules'] if row['depth'] == 0]
    assert sum(row['macs'] for row in outer) == found['macs']
    assert sum(row['params'] for row in outer) == found['params']
    return found, {row['name']: row for row in found['modules']}, out


def test_a_classifier_is_what_the_closed_form_says(here):
    found, modules, out = counted(here, DIGITS)
    arch = PRESETS['seed']
    assert found['shape'] == [32, 32]
    assert found['params'] == count_params(arch, 10, img_size=32)
    assert found['macs'] == pytest.approx(count_macs(arch, 32, 10), rel=0.005)
    for i, stage in enumerate(stage_macs(arch, 32)):
        macs = modules[f'backbone.stages.{i}']['macs']
        if i == 0:
            macs += modules['backbone.patch_embed']['macs']
        assert macs == pytest.approx(stage.total, rel=0.005)
    assert f'{found["params"]:,}' in out


@pytest.mark.slow
def test_a_detector_module_by_module(here):
    """By hand: proposals and masks as the config allows, the FPN and RPN of four and five maps."""
    found, modules, out = counted(
        here, CONFIGS / 'coco/mask-rcnn_asvit-s_fpn_1x_coco.py', '--shape', '320', '256'
    )
    proposals = 1000
    assert found['rois'] == {'bbox_head': proposals, 'mask_head': 100}
    assert f'bbox_head: {proposals} regions' in out
    arch = PRESETS['small']
    macs = count_macs(arch, (320, 256), window_size=(28, 28, 14, 7))
    assert modules['backbone']['macs'] == pytest.approx(macs, rel=0.005)
    pixels = [320 * 256 // 4**i // 16 for i in range(4)]
    lateral = sum(n * width * 256 for n, width in zip(pixels, arch.widths, strict=True))
    assert modules['neck']['macs'] == lateral + sum(pixels) * 256 * 256 * 9
    pixels.append(5 * 4)  # the fifth map, half of the fourth's 10 x 8
    anchors = 3 * (1 + 4)
    assert modules['rpn_head']['macs'] == sum(pixels) * 256 * (256 * 9 + anchors)
    box = 256 * 49 * 1024 + 1024 * 1024 + 1024 * 81 + 1024 * 320
    assert modules['roi_head.bbox_head']['macs'] == proposals * box
    mask = 4 * 14 * 14 * 256 * 256 * 9 + 14 * 14 * 256 * 256 * 4 + 28 * 28 * 256 * 80
    assert modules['roi_head.mask_head']['macs'] == 100 * mask


def test_a_config_that_mmdet_ships(here):
    found, modules, _ = counted(
        here, 'mmdet::swin/retinanet_swin-t-p4-w7_fpn_1x_coco.py', '--shape', '64'
    )
    assert found['params'] > modules['backbone']['params'] > 27e6
    said = here.refusal(TOOL, 'mmdet::swin/no-such.py', '--shape', '64')
    assert 'mmdet ships no such config' in said
    said = here.refusal(TOOL, DIGITS, '--json', '.')
    assert "'.' cannot be written" in said
    glip = 'mmdet::glip/glip_atss_swin-t_a_fpn_dyhead_pretrain_obj365.py'
    assert 'needs a text with its image' in here.refusal(TOOL, glip, '--shape', '64')


@pytest.mark.slow
def test_what_does_not_run_on_the_meta_device_is_computed(here):
    """mmcv's deformable convolutions, here in the backbone's second half."""
    dcn = 'mmdet::dcn/faster-rcnn_r50-dconv-c3-c5_fpn_1x_coco.py'
    few = 'model.test_cfg.rpn.nms_pre=20', 'model.test_cfg.rcnn.max_per_img=5'
    found, modules, _ = counted(here, dcn, '--shape', '160', '--cfg-options', *few)
    assert 20 <= found['rois']['bbox_head'] < 100
    box = 256 * 49 * 1024 + 1024 * 1024 + 1024 * 81 + 1024 * 320
    assert modules['roi_head.bbox_head']['macs'] == found['rois']['bbox_head'] * box


@pytest.mark.parametrize(
    'config', ['mask-rcnn_asvit-s_fpn_1x_coco', 'retinanet_asvit-s_fpn_1x_coco']
)
def test_counting_and_computing_agree(config):
    """Where both see as many regions, what is counted without computing is what is computed."""
    cfg = load_model_config(str(CONFIGS / f'coco/{config}.py'))
    few = dict(rpn=dict(nms_pre=10, max_per_img=4), rcnn=dict(max_per_img=2))
    cfg.merge_from_dict({'model.test_cfg': few if 'mask' in config else {}})
    model = build_model(cfg, config)
    counted, regions = count_prediction(model, cfg, (64, 96))
    keep_all_scores(model)
    computed = count_by_module(model, lambda: detect(model, black_image(64, 96)))
    assert regions == ({'bbox_head': 4, 'mask_head': 2} if 'mask' in config else {})
    assert counted == computed


@pytest.mark.slow
def test_the_papers_detector(here):
    """Its header's figure; published: 1094 G, with other heads than mmdet's."""
    found, modules, _ = counted(here, CONFIGS / 'asvit_coco.py', '--shape', '1024')
    assert f'{found["macs"] / 1e9:.0f} G multiply-adds' in (CONFIGS / 'asvit_coco.py').read_text()
    assert modules['backbone']['macs'] == pytest.approx(503e9, rel=0.005)
    assert found['rois'] == {'bbox_head': 1000, 'mask_head': 100}


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['lost.py'], "config 'lost.py' does not exist"),
        ([DIGITS, '--shape', '0'], '--shape'),
        ([DIGITS, '--shape', '32', '32', '32'], '--shape'),
        ([RETINANET], 'does not say how large images are'),
        ([RETINANET, '--shape', '64', '--cfg-options', MAPS], 'cannot take an image of 64x64'),
        ([RETINANET, '--shape', '64', '--cfg-options', 'model.neck.num_outs=1'], 'cannot be built'),
        (['headless.py', '--shape', '32'], 'cannot be built'),
        (['number.py', '--shape', '32'], 'cannot be built'),
    ],
)
def test_refusals(here, args, words):
    (here.folder / 'headless.py').write_text("model = dict(type='Nothing')\n")
    (here.folder / 'number.py').write_text('model = 3\n')
    assert words in here.refusal(TOOL, *args)
