"""timm's door to the backbones: names, features, weights, and the same logits as mmpretrain's."""

from itertools import pairwise

import numpy as np
import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from PIL import Image
from safetensors.torch import save_file
from timm.models import load_checkpoint
from timm.optim import param_groups_layer_decay

import asvit_mm.timm
from asvit_mm.arch import PRESETS
from asvit_mm.errors import InputError
from asvit_mm.models import AsViT

from .test_configs import ROOT

SMALL = dict(arch='5,2,2,1|3,2,3,2|2,1,2,1|3,1,2,1|16,16', img_size=32, num_classes=3)


def images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_the_family_is_listed_and_has_the_published_sizes():
    assert timm.list_models('asvit*') == ['asvit_base', 'asvit_large', 'asvit_seed', 'asvit_small']
    for name, millions in (('small', 29.0), ('base', 52.6), ('large', 88.1)):
        with torch.device('meta'):
            model = timm.create_model(f'asvit_{name}')
        params = sum(p.numel() for p in model.parameters())
        assert params / 1e6 == pytest.approx(millions, abs=0.06)
        assert model.backbone.architecture == PRESETS[name]
        assert model.default_cfg['input_size'] == (3, 224, 224)


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_one_checkpoint_gives_the_same_logits_through_both_doors(tmp_path, suffix):
    cfg = Config.fromfile(ROOT / 'configs/digits/asvit-seed_b64-progressive_digits.py')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        theirs = MODELS.build(cfg.model).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) / 20)
    path = str(tmp_path / f'weights{suffix}')
    settings = {}
    if suffix == '.pth':
        # As a run writes it: with the state of MMEngine's objects.
        content = {'state_dict': theirs.state_dict(), 'message_hub': HistoryBuffer([1.0], [1])}
        torch.save(content, path)
        settings['weights_only'] = False
    else:
        save_file(theirs.state_dict(), path)
    ours = timm.create_model('asvit_seed', img_size=32, num_classes=10).eval()
    x = images(2, 3, 32, 32)
    with torch.no_grad():
        assert (ours(x) - theirs(x)).abs().max() > 1e-3
        load_checkpoint(ours, path, strict=True, **settings)
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-6, atol=1e-6)


def test_features_of_chosen_stages():
    x = images(2, 3, 40, 72)
    torch.manual_seed(0)
    model = timm.create_model('asvit_seed', features_only=True, **SMALL).eval()
    assert model.feature_info.channels() == [16, 32, 64, 128]
    assert model.feature_info.reduction() == [4, 8, 16, 32]
    maps = model(x)
    assert [tuple(one.shape[1:]) for one in maps] == [
        (16, 10, 18), (32, 5, 9), (64, 3, 5), (128, 2, 3)
    ]  # fmt: skip
    torch.manual_seed(0)
    two = timm.create_model('asvit_seed', features_only=True, out_indices=(0, 2), **SMALL).eval()
    chosen = two(x)
    assert torch.equal(chosen[0], maps[0])
    assert torch.equal(chosen[1], maps[2])
    assert len(two.model.backbone.stages) == 3
    # What is left of a model that was cut still runs.
    assert two.model(x).shape == (2, 64, 3, 5)


def test_intermediates_are_the_backbones_stages():
    x = images(1, 3, 32, 32)
    model = timm.create_model('asvit_seed', **SMALL).eval()
    plain = AsViT(SMALL['arch'], 32).eval()
    plain.load_state_dict(model.backbone.state_dict())
    last, maps = model.forward_intermediates(x, norm=True)
    assert torch.equal(last, plain(x)[0])
    assert torch.equal(maps[3], plain(x)[0])
    tokens = plain.embed(x)
    for one, stage in zip(maps[:3], plain.stages, strict=False):
        tokens = stage(tokens)
        assert torch.equal(one, tokens.permute(0, 3, 1, 2))
    assert torch.equal(model.forward_features(x), last)
    (only,) = model.forward_intermediates(x, indices=[1], stop_early=True, intermediates_only=True)
    assert torch.equal(only, maps[1])


def test_classifiers_can_be_changed_and_removed():
    x = images(2, 3, 32, 32)
    model = timm.create_model('asvit_seed', **SMALL).eval()
    assert model(x).shape == (2, 3)
    assert model.forward_head(model.forward_features(x), pre_logits=True).shape == (2, 128)
    model.reset_classifier(7)
    assert model(x).shape == (2, 7)
    assert model.get_classifier().out_features == 7
    model.reset_classifier(0)
    assert model(x).shape == (2, 128)
    # timm's two ways to the features before the last layer.
    assert torch.equal(model(x), model.forward_head(model.forward_features(x), pre_logits=True))
    model.reset_classifier(0, '')
    assert torch.equal(model(x), model.forward_features(x))
    for pooling, shape in (('max', (2, 3)), ('avgmax', (2, 3)), ('', (2, 3, 1, 1))):
        model.reset_classifier(3, pooling)
        assert model(x).shape == shape
    with pytest.raises(InputError, match='global_pool'):
        model.reset_classifier(3, 'token')
    with pytest.raises(InputError, match='NLCH'):
        model.forward_intermediates(x, output_fmt='NLCH')


def test_pooling_by_the_maximum():
    x = images(2, 3, 64, 64)
    model = timm.create_model('asvit_seed', global_pool='max', **SMALL).eval()
    layers = model.head.layers
    expected = layers(model.forward_features(x).amax((2, 3)))
    torch.testing.assert_close(model(x), expected)


def test_another_classifier_is_where_the_model_is():
    model = timm.create_model('asvit_seed', device='meta', dtype=torch.bfloat16, **SMALL)
    model.reset_classifier(5)
    assert {(p.device.type, p.dtype) for p in model.parameters()} == {('meta', torch.bfloat16)}
    model = timm.create_model('asvit_seed', **SMALL).double().eval()
    hidden = model.head.layers.pre_logits.weight
    model.reset_classifier(5)
    assert model.head.layers.pre_logits.weight is hidden
    assert not model.head.training
    assert model(images(1, 3, 32, 32).double()).dtype == torch.float64


def test_another_input_size():
    model = timm.create_model('asvit_seed', strict_img_size=True, **SMALL).eval()
    with pytest.raises(AssertionError, match='height'):
        model(images(1, 3, 64, 32))
    model.set_input_size((64, 32), window_size=4)
    assert model(images(1, 3, 64, 32)).shape == (1, 3)
    with pytest.raises(AssertionError, match='width'):
        model.forward_intermediates(images(1, 3, 64, 64))
    plain = AsViT(SMALL['arch'], (64, 32), window_size=4).eval()
    plain.load_state_dict(model.backbone.state_dict())
    x = images(1, 3, 64, 32)
    assert torch.equal(plain(x)[0], model.forward_features(x))
    free = timm.create_model('asvit_seed', strict_img_size=True, dynamic_img_size=True, **SMALL)
    assert free(images(1, 3, 40, 72)).shape == (1, 3)


def test_the_input_that_a_model_says_is_its_own():
    model = timm.create_model('asvit_seed', img_size=(64, 96), in_chans=1)
    cfg = timm.data.resolve_model_data_config(model)
    assert cfg['input_size'] == (1, 64, 96)
    assert len(cfg['mean']) == len(cfg['std']) == 1
    assert model.default_cfg['pool_size'] == (2, 3)
    digits = ROOT / 'configs/digits/asvit-seed_b64-progressive_digits.py'
    overlay = asvit_mm.timm.preprocessing(digits)
    model = timm.create_model('asvit_seed', img_size=32, pretrained_cfg_overlay=overlay)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    picture = Image.fromarray(np.full((8, 8, 3), 100, np.uint8))
    expected = torch.full((3, 32, 32), (100 - 77.9) / 95.9)
    torch.testing.assert_close(transform(picture), expected, atol=1e-4, rtol=0)
    small = asvit_mm.timm.preprocessing(ROOT / 'configs/asvit/asvit-small_8xb128_in1k.py')
    assert (small['crop_pct'], small['interpolation']) == (0.875, 'bicubic')


def test_features_in_every_format_and_by_hooks():
    x = images(1, 3, 40, 72)
    torch.manual_seed(0)
    model = timm.create_model('asvit_seed', **SMALL).eval()
    maps = model.forward_intermediates(x, intermediates_only=True)
    for cls in ('hook', 'fx'):
        torch.manual_seed(0)
        net = timm.create_model('asvit_seed', features_only=True, feature_cls=cls, **SMALL).eval()
        assert all(torch.equal(a, b) for a, b in zip(net(x), maps, strict=True))
    nhwc = model.forward_intermediates(x, output_fmt='NHWC', intermediates_only=True)
    assert all(torch.equal(a.permute(0, 3, 1, 2), b) for a, b in zip(nhwc, maps, strict=True))
    tokens = model.get_intermediate_layers(x, n=2)
    assert [one.shape for one in tokens] == [(1, 15, 64), (1, 6, 128)]
    assert torch.equal(tokens[1], nhwc[3].flatten(1, 2))
    (last,) = model.get_intermediate_layers(x, reshape=True, norm=True)
    assert torch.equal(last, model.forward_features(x))


@pytest.mark.slow
def test_scripted_at_any_size(tmp_path):
    model = timm.create_model('asvit_seed', drop_path_rate=0.2, attn_drop_rate=0.1, **SMALL)
    torch.jit.script(model.eval()).save(tmp_path / 'model.pt')
    scripted = torch.jit.load(tmp_path / 'model.pt')
    for size in ((32, 32), (40, 72), (33, 50)):
        torch.testing.assert_close(scripted(x := images(2, 3, *size)), model(x))


def test_another_token_stride():
    x, resized = images(2, 3, 32, 32), dict(token_projection='resize')
    torch.manual_seed(0)
    coarse = timm.create_model('asvit_seed', **SMALL, **resized, token_stride=8).eval()
    model = timm.create_model('asvit_seed', **SMALL, **resized).eval()
    model.load_state_dict(coarse.state_dict(), strict=True)
    assert [one['reduction'] for one in coarse.feature_info] == [8, 16, 32, 64]
    full = model(x)
    model.backbone.set_token_stride(8)
    assert torch.equal(model(x), coarse(x))
    assert not torch.equal(full, coarse(x))
    torch.testing.assert_close(torch.jit.script(coarse)(x), coarse(x))
    traced = torch.fx.symbolic_trace(coarse.backbone)
    assert torch.equal(traced(x)[0], coarse.backbone(x)[0])


def test_dropout_of_the_classifier_and_of_the_blocks():
    settings = {'drop_rate': 0.5, 'proj_drop_rate': 0.2, 'drop_path_rate': 0.1}
    model = timm.create_model('asvit_seed', **SMALL, **settings)
    assert model.head.drop.p == 0.5
    assert model.backbone.drop_after_pos.p == 0
    assert model.backbone.stages[0].blocks[0].ffn.drop.p == 0.2
    tokens = torch.ones(1, 128, 1, 1)
    assert not torch.equal(model.train().forward_head(tokens), model.eval().forward_head(tokens))


def test_checkpointing_decay_and_layers():
    model = timm.create_model('asvit_seed', **SMALL).train()
    model.set_grad_checkpointing()
    assert all(stage.with_cp for stage in model.backbone.stages)
    model(images(2, 3, 32, 32)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    groups = param_groups_layer_decay(model, 0.05, model.no_weight_decay(), layer_decay=0.5)
    names = {id(p): name for name, p in model.named_parameters()}
    scales = {names[id(p)]: group['lr_scale'] for group in groups for p in group['params']}
    assert scales.keys() == set(names.values())
    order = [
        'backbone.patch_embed.proj.weight',
        'backbone.stages.0.blocks.0.attn.qkv.weight',
        'backbone.stages.1.blocks.0.attn.qkv.weight',
        'backbone.stages.1.blocks.1.attn.qkv.weight',
        'backbone.stages.3.blocks.0.ffn.fc2.weight',
    ]
    found = [scales[name] for name in order]
    assert all(a < b for a, b in pairwise(found))
    assert scales['backbone.pos_embed'] == scales[order[0]]
    assert scales['head.layers.head.weight'] == 1
    decays = {names[id(p)]: group['weight_decay'] for group in groups for p in group['params']}
    assert decays['backbone.pos_embed'] == 0
    assert decays['backbone.norm3.weight'] == 0
    assert decays[order[0]] == 0.05


def test_weights_that_there_are_not():
    with pytest.raises(RuntimeError, match='pretrained weights'):
        timm.create_model('asvit_small', pretrained=True)
    assert asvit_mm.timm.default_cfgs.keys() >= {'asvit_small'}
