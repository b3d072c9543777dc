"""tools/analysis_tools/benchmark_detectors.py run as users do."""

import contextlib
import io
import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from asvit_mm.analysis.benchmark_detectors import Detector
from asvit_mm.analysis.settings import DETECTORS
from asvit_mm.engine.config import find_config
from asvit_mm.engine.models import load_model_config

from .runs import TOOLS

CONFIGS = TOOLS.parent / 'configs'
DIGITS = CONFIGS / 'digits/asvit-seed_b64-progressive_digits.py'
RETINANET = CONFIGS / 'coco/retinanet_asvit-s_fpn_1x_coco.py'
SWIN_RETINANET = 'mmdet::swin/retinanet_swin-t-p4-w7_fpn_1x_coco.py'
MASK_RCNN = str(CONFIGS / 'coco/mask-rcnn_asvit-s_fpn_1x_coco.py')
TEACHER = 'mmdet::soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py'
# It wants to know the border that its own test pipeline pads with.
CENTERNET = 'mmdet::centernet/centernet_r18_8xb16-crop512-140e_coco.py'
TOOL = 'analysis_tools/benchmark_detectors.py'


def write_small(path, base):
    """A config of few proposals and detections: its heads cost little."""
    path.parent.mkdir(exist_ok=True)
    few = 'dict(rpn=dict(nms_pre=60, max_per_img=10), rcnn=dict(max_per_img=5))'
    path.write_text(f'_base_ = {base!r}\nmodel = dict(test_cfg={few})\n')
    return path.name


def measured(here, *args):
    """What is written, printed and said on stderr."""
    with contextlib.redirect_stderr(io.StringIO()) as err:
        out = here.run(TOOL, *args, '--threads', 1, '--json', 'found.json')
    assert 'written: found.json' in out
    said = [line for line in err.getvalue().splitlines() if 'Warning' not in line]
    return json.loads((here.folder / 'found.json').read_text()), out, said


@pytest.mark.slow
def test_peers_side_by_side(here):
    ours = write_small(here.folder / 'ours.py', MASK_RCNN)
    configs = [SWIN_RETINANET, ours]
    found, out, said = measured(here, *configs, '--shape', 64, 96, '--rounds', 2)
    assert found['shape'] == [64, 96]
    assert found['rounds'] == 2
    assert '1 threads' in found['device']
    assert found['torch'] == str(torch.__version__)
    detectors = found['detectors']
    assert [detector['config'] for detector in detectors] == configs
    assert said == [
        *(f'counted {d["config"]}: {d["macs"] / 1e9:.4g} G multiply-adds' for d in detectors),
        *(f'warm-up of {config}' for config in configs),
        'round 1 of 2',
        'round 2 of 2',
    ]
    for detector in detectors:
        assert 0 < detector['backbone_macs'] < detector['macs']
        assert 0 < detector['backbone_seconds'] < detector['seconds']
        assert detector['spread'] >= 0
        each = detector['seconds'] * 1e12 / detector['macs']
        assert detector['ms_per_gmac'] == pytest.approx(each)
        assert f' {Path(detector["config"]).stem} ' in out
        assert f' {each:.3g} ' in out
    assert [d['rois'] for d in detectors] == [{}, {'bbox_head': 10, 'mask_head': 5}]
    # Published with Swin.
    assert detectors[0]['params'] == pytest.approx(38.5e6, rel=0.002)


@pytest.mark.slow
def test_configs_of_one_name_are_told_apart(here):
    for folder in 'ab':
        write_small(here.folder / folder / 'one.py', str(RETINANET))
    found, out, _ = measured(
        here, 'a/one.py', here.folder / 'b/one.py', '--shape', 64, '--rounds', 1
    )
    # Given by its whole path, named by the shortest.
    assert [detector['config'] for detector in found['detectors']] == ['a/one.py', 'b/one.py']
    assert ' a/one.py ' in out
    assert ' b/one.py ' in out
    assert found['shape'] == [64, 64]


def test_figures_are_of_the_last_predictions():
    detector = Detector(str(RETINANET))
    detector.macs, detector.backbone_macs, detector.rois = 2 * 10**9, 10**9, {}
    detector.backbone_seconds = [90.0, 1.0, 5.0, 2.0]  # the first one was the warm-up's
    found = detector.figures([4.0, 8.0, 6.0])
    assert found['seconds'] == 6
    assert found['spread'] == pytest.approx(2 / 6)
    assert found['backbone_seconds'] == 2
    assert found['ms_per_gmac'] == 3000


def settings(value):
    """Every (key, value) of nested settings."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from settings(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from settings(inner)


def test_default_peers_and_their_weights_that_are_not_fetched(tmp_path):
    backbones = []
    for peer in DETECTORS:
        model = load_model_config(peer).model
        assert not {'init_cfg', 'pretrained'} & {key for key, _ in settings(model)}
        backbones.append((model.type, model.backbone.type, model.backbone.get('arch')))
    ours, convnext = 'asvit_mm.AsViT', 'mmpretrain.ConvNeXt'
    assert backbones == [
        ('MaskRCNN', ours, 'small'),
        ('MaskRCNN', ours, 'base'),
        ('MaskRCNN', 'SwinTransformer', None),
        ('MaskRCNN', 'SwinTransformer', None),
        ('MaskRCNN', convnext, 'tiny'),
        ('CascadeRCNN', ours, 'small'),
        ('CascadeRCNN', ours, 'base'),
        ('CascadeRCNN', ours, 'large'),
        ('CascadeRCNN', convnext, 'tiny'),
        ('CascadeRCNN', convnext, 'small'),
        ('CascadeRCNN', ours, 'large'),
    ]
    # What a constructor would fetch, and what one in a list would.
    timm = 'mmdet::timm_example/retinanet_timm-tv-resnet50_fpn_1x_coco.py'
    necks = tmp_path / 'necks.py'
    necks.write_text("default_scope = 'mmdet'\nmodel = dict(neck=[dict(pretrained='a.pth')])\n")
    for name in (timm, str(necks)):
        assert dict(settings(Config.fromfile(find_config(name)).model))['pretrained']
        assert 'pretrained' not in dict(settings(load_model_config(name).model))


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        # Before anything is counted, which would be said.
        ([RETINANET, 'lost.py'], "config 'lost.py' does not exist"),
        (['mmdet::swin/lost.py'], "'mmdet::swin/lost.py': mmdet ships no such config"),
        ([DIGITS], 'its default_scope is not mmdet'),
        (['number.py'], 'cannot be built'),
        ([TEACHER], 'SoftTeacher has no backbone of its own'),
        ([CENTERNET, '--shape', '64'], "64x64 pixels: KeyError: 'border'"),
        ([RETINANET, '--shape', '0'], '--shape'),
        ([RETINANET, '--shape', '64', '64', '64'], '--shape'),
        ([RETINANET, '--rounds', '0'], '--rounds 0 is too small'),
        ([RETINANET, '--threads', '0'], '--threads 0 is too small'),
        ([RETINANET, '--json', '.'], "--json '.' cannot be written"),
        pytest.param(
            [RETINANET, '--device', 'cuda'],
            "--device 'cuda' is not there",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason='there is one'),
        ),
    ],
)
def test_refusals(here, args, words):
    scope = "default_scope = 'mmdet'\n"
    (here.folder / 'number.py').write_text(scope + 'model = 3\n')
    # Where it is not refused, it ends soon.
    shape = [] if '--shape' in args else ['--shape', '64']
    assert words in here.refusal(TOOL, *shape, '--rounds', '1', *args)
