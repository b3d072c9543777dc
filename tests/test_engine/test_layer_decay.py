"""Layer-wise learning-rate decay, for classifiers by mmpretrain's constructor and for detectors by ours."""

from pathlib import Path

import pytest
from mmdet.registry import MODELS as DETECTORS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS as CLASSIFIERS

from asvit_mm.config_writer.configs import config_text
from asvit_mm.config_writer.detection import detection_text
from asvit_mm.data.source import describe_data
from asvit_mm.errors import InputError
from asvit_mm.models import AsViT

ROOT = Path(__file__).parents[2]
ARCH = '4,2,2,1|2,1,2,3|2,1,2,1|2,1,2,2|16,12'
OURS = 'asvit_mm.BackboneDecayConstructor'
MMPRETRAINS = 'mmpretrain.LearningRateDecayOptimWrapperConstructor'


def model(codebase):
    write = config_text if codebase == 'mmpretrain' else detection_text
    arch = AsViT(ARCH).architecture
    cfg = Config.fromstring(write(arch, describe_data('digits', 32)), '.py')
    registry = CLASSIFIERS if codebase == 'mmpretrain' else DETECTORS
    with DefaultScope.overwrite_default_scope(codebase):
        return registry.build(cfg.model)


def rates(network, constructor):
    wrapper = build_optim_wrapper(
        network,
        dict(
            optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.05),
            constructor=constructor,
            paramwise_cfg=dict(layer_decay_rate=0.5),
        ),
    )
    names = {id(p): name for name, p in network.named_parameters()}
    return {
        names[id(p)]: group['lr']
        for group in wrapper.optimizer.param_groups
        for p in group['params']
    }


def test_depths():
    """7 blocks: the embedding is layer 0, block k layer k, what follows layer 8."""
    network = AsViT(ARCH, out_indices=(0, 3))
    expected = {
        'pos_embed': 0,
        'patch_embed.proj.weight': 0,
        'stages.0.blocks.0.attn.qkv.weight': 1,
        'stages.1.merging.reduction.weight': 1,
        'stages.1.blocks.0.norm1.bias': 2,
        'stages.1.blocks.2.ffn.fc2.weight': 4,
        'stages.2.merging.norm.weight': 4,
        'stages.2.blocks.0.ffn.fc1.bias': 5,
        'stages.3.blocks.1.attn.proj.weight': 7,
        'norm0.weight': 8,
        'norm3.bias': 8,
    }
    for name, depth in expected.items():
        assert network.get_parameter(name) is not None
        assert network.get_layer_depth(name) == (depth, 9)
        assert network.get_layer_depth(f'backbone.{name}', 'backbone.') == (depth, 9)
    assert network.get_layer_depth('neck.conv.weight', 'backbone.') == (8, 9)
    depths = [network.get_layer_depth(name)[0] for name, _ in network.named_parameters()]
    assert set(depths) == set(range(9))


@pytest.mark.parametrize('codebase', ['mmpretrain', 'mmdet'])
def test_rates_of_a_whole_model(codebase):
    network = model(codebase)
    found = rates(network, OURS)
    assert set(found) == {name for name, _ in network.named_parameters()}
    for name, rate in found.items():
        layer = network.backbone.get_layer_depth(name, 'backbone.')[0]
        assert rate == 0.5 ** (8 - layer)
    assert found['backbone.patch_embed.proj.weight'] == 0.5**8
    assert found['backbone.stages.3.blocks.1.attn.qkv.weight'] == 0.5
    outside = {rate for name, rate in found.items() if not name.startswith('backbone.')}
    assert outside == {1.0}
    if codebase == 'mmpretrain':
        assert found == rates(network, MMPRETRAINS)


def test_a_backbone_that_does_not_say_is_refused():
    cfg = Config.fromfile(ROOT / 'configs/coco/retinanet_asvit-s_fpn_1x_coco.py').model
    cfg.backbone = dict(type='ResNet', depth=18, out_indices=(1, 2, 3))
    cfg.neck.in_channels = [128, 256, 512]
    with DefaultScope.overwrite_default_scope('mmdet'):
        network = DETECTORS.build(cfg)
    with pytest.raises(InputError, match='ResNet has no get_layer_depth'):
        rates(network, OURS)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        classifier = CLASSIFIERS.build(dict(type='ImageClassifier', backbone=dict(type='LeNet5')))
    with pytest.raises(InputError, match='LeNet5 has no get_layer_depth'):
        rates(classifier, OURS)
    # A backbone alone is asked itself.
    assert rates(AsViT(ARCH), OURS)['stages.3.blocks.1.attn.qkv.weight'] == 0.5
