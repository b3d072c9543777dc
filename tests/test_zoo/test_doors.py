"""Other libraries' doors to our models, by name, with the weights that come with the package."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer
from mmengine.config import Config
from mmpretrain import ImageClassificationInferencer, get_model, list_models

from asvit_mm import zoo
from asvit_mm.data.image_sets import DIGITS, split_image_set
from asvit_mm.data.scenes import CLASSES, write_scenes

CLASSIFIER = 'asvit-3.0m-10mf_b64-progressive_digits'
DETECTOR = 'mask-rcnn_asvit-3.0m-10mf_fpn_12e_scenes'


def test_mmpretrain_lists_our_classifiers():
    names = list_models('asvit*')
    others = ('asvit_coco', '_upernet_')
    ours = zoo.list_models('asvit*')
    assert names == [name for name in ours if not any(other in name for other in others)]
    assert CLASSIFIER in list_models('asvit*', task='Image Classification')
    assert not list_models('mask-rcnn_asvit*')


def test_mmpretrain_builds_them_with_their_weights_and_with_others():
    model = get_model(CLASSIFIER, pretrained=True)
    assert model._dataset_meta['classes'] == [str(i) for i in range(10)]
    weights = torch.load(zoo.fetch(CLASSIFIER)[1], weights_only=True)['state_dict']
    for name, value in model.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, weights[name].float())
    same = get_model(CLASSIFIER, pretrained=zoo.fetch(CLASSIFIER)[1])
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(model(x), same(x))
    assert not torch.equal(get_model(CLASSIFIER)(x), same(x))
    maps = get_model(CLASSIFIER, backbone=dict(out_indices=(1, 3))).extract_feat(
        x, stage='backbone'
    )
    assert [tuple(one.shape[1:]) for one in maps] == [(80, 4, 4), (320, 1, 1)]


def test_mmpretrains_inferencer_reads_digits():
    pixels, labels, parts = split_image_set(DIGITS)
    chosen = parts['val'][:40]
    images = [np.repeat(pixels[i][..., None], 3, axis=2) for i in chosen]
    inferencer = ImageClassificationInferencer(CLASSIFIER, pretrained=True, device='cpu')
    found = [result['pred_class'] for result in inferencer(images, batch_size=20)]
    assert np.mean([name == str(labels[i]) for name, i in zip(found, chosen, strict=True)]) > 0.95


@pytest.mark.parametrize('door', ['scope', 'fetch'])
def test_mmdets_inferencer_finds_digits(door, tmp_path):
    folder = write_scenes(tmp_path / 'scenes', train=1, val=3)
    images = sorted(map(str, Path(folder).glob('val2017/*.png')))
    assert len(images) == 3
    if door == 'scope':
        inferencer = DetInferencer(DETECTOR, scope='asvit_mm', device='cpu')
    else:
        inferencer = DetInferencer(*zoo.fetch(DETECTOR), device='cpu')
    assert tuple(inferencer.model.dataset_meta['classes']) == CLASSES
    for result in inferencer(images)['predictions']:
        assert max(result['scores']) > 0.5
        assert {'labels', 'bboxes', 'masks'} <= result.keys()


def test_mmengine_takes_our_configs_as_bases(tmp_path):
    (tmp_path / 'config.py').write_text(f"_base_ = 'asvit_mm::digits/{CLASSIFIER}.py'\n")
    assert Config.fromfile(tmp_path / 'config.py').model.head.in_channels == 320
