"""tools/misc/demo_detection.py on a classifier as the demo leaves it, and the peer's way beside it."""

import json
import runpy
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from PIL import Image

from asvit_mm.analysis.flops import count_multiply_adds
from asvit_mm.arch import as_architecture
from asvit_mm.config_writer.configs import config_text
from asvit_mm.data.source import describe_data
from asvit_mm.errors import InputError

from .runs import TOOLS

ARCH = '4,2,2,1|2,1,2,1|2,1,2,1|2,1,2,1|16,16'
DEMO = runpy.run_path(str(TOOLS / 'misc/demo_detection.py'))
CONFIGS = TOOLS.parent / 'configs' / 'scenes'


def finished_demo(folder):
    """What tools/misc/demo.py leaves, with a classifier that has learnt nothing."""
    for step in ('scale', 'train'):
        (folder / step).mkdir(parents=True)
    arch = as_architecture(ARCH)
    config = folder / 'scale' / 'classifier.py'
    config.write_text(config_text(arch, describe_data('digits', 32), progressive=True))
    cfg = Config.fromfile(config)
    cfg.randomness.seed = 3
    cfg.dump(folder / 'train' / 'classifier.py')
    torch.manual_seed(1)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
    torch.save({'state_dict': model.state_dict()}, folder / 'train' / 'epoch_60.pth')
    (folder / 'train' / 'last_checkpoint').write_text(str(folder / 'train' / 'epoch_60.pth'))
    (folder / 'train' / 'test.json').write_text(json.dumps({'accuracy/top1': 12.5}))
    (folder / 'scale' / 'result.json').write_text(
        json.dumps({'series': [{'config': 'other.py'}, {'config': 'classifier.py'}]})
    )
    return model


@pytest.mark.slow
def test_from_the_classifiers_weights_to_pictures(here, tmp_path):
    finished_demo(tmp_path / 'demo')
    out = here.run(
        'misc/demo_detection.py',
        *('--demo', 'demo', '--work-dir', 'work', '--scenes', 6, '--seed', 3),
        *('--cfg-options', 'train_cfg.max_epochs=1', 'train_dataloader.batch_size=3'),
    )
    (result,) = json.loads((tmp_path / 'work' / 'results.json').read_text())
    assert result['classifier_top1'] == 12.5
    assert set(result['metrics']) >= {'coco/bbox_mAP_50', 'coco/segm_mAP_50'}
    assert result['backbone_macs'] < result['macs']
    assert out.rstrip().endswith(f'{result["picture"]}, {result["pictures"]}')
    with Image.open(result['picture']) as picture:
        assert picture.width > picture.height > 300
    assert len(list(Path(result['pictures']).glob('**/*.png'))) == 1  # one held-out scene
    (log,) = (tmp_path / 'work/asvit/detector').glob('*/*.log')
    assert 'weights taken from' in log.read_text()


def test_what_cannot_be_done_is_said_in_one_line(here, tmp_path):
    finished_demo(tmp_path / 'demo')
    tool = ['misc/demo_detection.py', '--demo', 'demo', '--scenes']
    assert 'demo with seed 3, not 0' in here.refusal(*tool, 1)
    (tmp_path / 'demo' / 'train' / 'epoch_60.pth').unlink()
    assert 'epoch_60.pth is gone: remove demo' in here.refusal(*tool, 1, '--seed', 3)
    assert '--scenes 0 is too small' in here.refusal(*tool, 0)
    with pytest.raises(InputError, match='costs as much'):
        DEMO['swin_width'](10**11)


def test_the_peer_costs_what_it_is_asked_to_cost():
    def macs(width):
        cfg = Config.fromfile(CONFIGS / 'mask-rcnn_swin-c40_fpn_12e_scenes.py').model.backbone
        with DefaultScope.overwrite_default_scope('mmdet'):
            model = MMDET_MODELS.build({**cfg, 'embed_dims': width})
        model.eval()
        return count_multiply_adds(model, torch.zeros(1, 3, 128, 128))

    found = DEMO['swin_width']
    assert found(macs(40)) == 40
    middle = (macs(32) + macs(36)) // 2
    assert {found(middle - 10**6), found(middle + 10**6)} == {32, 36}


def test_the_peer_takes_all_weights_of_its_classifier(tmp_path):
    """mmpretrain's Swin is mmdet's: what both give on an image of the classifier's size tells."""
    cfg = Config.fromfile(CONFIGS / 'swin-c40_b64_digits.py')
    torch.manual_seed(1)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        classifier = MODELS.build(cfg.model).eval()
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.add_(torch.randn_like(parameter) / 10)
    torch.save({'state_dict': classifier.state_dict()}, tmp_path / 'swin.pth')
    trained = {'width': 40, 'checkpoint': tmp_path / 'swin.pth'}
    config = DEMO['swin_config'](trained, tmp_path, Path('data/scenes'))
    with DefaultScope.overwrite_default_scope('mmdet'):
        detector = MMDET_MODELS.build(Config.fromfile(config).model)
        detector.backbone.init_weights()
    x = torch.randn(2, 3, 32, 32)
    ours, theirs = detector.backbone, classifier.backbone
    ours.eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(x)[3], theirs(x)[0], rtol=0, atol=0)
        assert classifier(x).shape == (2, 10)
