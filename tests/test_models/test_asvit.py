import copy
import logging
import math
import subprocess
import sys
import warnings

import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.models.peft.lora import LoRALinear, LoRAModel
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn import functional as F
from torchvision.models.feature_extraction import create_feature_extractor

from asvit_mm.arch import SEARCH_SPACE
from asvit_mm.errors import InputError
from asvit_mm.models import AsViT
from asvit_mm.models.asvit import MapNorm, partition_windows, reverse_windows
from asvit_mm.models.classifier import build_classifier, classifier_config
from asvit_mm.registry import MODELS
from tests.golden import ENTRIES, golden_backbone, golden_tensor

TINY = '5,2,2,1|3,2,3,2|2,1,2,1|3,1,2,1|16,16'
LN = dict(type='LN')


def images(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def golden_classifier(entry):
    backbone = golden_backbone(entry, norm_cfg=LN)
    config = classifier_config(
        entry['arch'], entry['num_classes'], img_size=entry['img_size'], use_abs_pos_embed=False
    )
    model = build_classifier(config).double()
    model.backbone.load_state_dict(backbone.state_dict())
    with torch.no_grad():
        for layer, name in (('pre_logits', 'head.0'), ('head', 'head.2')):
            for key, parameter in getattr(model.head.layers, layer).named_parameters():
                parameter.copy_(golden_tensor(f'{name}.{key}', tuple(parameter.shape)))
    return model.eval()


@pytest.mark.parametrize('device', ['cpu', pytest.param('cuda', marks=pytest.mark.cuda)])
@pytest.mark.parametrize('entry', ENTRIES, ids=lambda entry: entry['arch'])
def test_golden_features_and_logits(entry, device):
    size = entry['img_size']
    x = images(2, 3, size, size).double().to(device)
    model = golden_classifier(entry).to(device)
    with torch.no_grad():
        features, logits = model.backbone.pooled_tokens(x).cpu(), model(x).cpu()
    for name, value in (('pooled_features', features), ('logits', logits)):
        first, norm = (
            torch.tensor(entry[f'{name}_{kind}'], dtype=torch.float64)
            for kind in ('first6', 'norm')
        )
        torch.testing.assert_close(value[:, :6], first, rtol=1e-9, atol=0)
        torch.testing.assert_close(value.norm(dim=1), norm, rtol=1e-9, atol=0)


def slow_forward(model, x):
    """The network written out plainly: windows cut in every block, attention head by head.

    Nothing is ever masked: the last windows are cut where the tokens end.
    """
    arch = model.architecture

    def attention(block, x, fixed, split):
        b, h, w, _ = x.shape
        heads, dim = block.attn.num_heads, block.attn.head_dim
        wh, ww = (fixed or math.ceil(side / split) for side in (h, w))
        out = torch.zeros(b, h, w, heads * dim, dtype=x.dtype)
        qkv = F.linear(x, block.attn.qkv.weight, block.attn.qkv.bias)
        for top in range(0, h, wh):
            for left in range(0, w, ww):
                rows, columns = slice(top, min(top + wh, h)), slice(left, min(left + ww, w))
                cut = qkv[:, rows, columns]
                size = cut.shape[1:3]
                tokens = cut.reshape(b, -1, 3, heads, dim)
                for n in range(heads):
                    q, k, v = (tokens[:, :, part, n] for part in range(3))
                    weights = (q @ k.transpose(1, 2) / dim**0.5).softmax(-1)
                    lo, hi = n * dim, (n + 1) * dim
                    out[:, rows, columns, lo:hi] = (weights @ v).reshape(b, *size, dim)
        return F.linear(out, block.attn.proj.weight, block.attn.proj.bias)

    k = arch.kernels[0]
    bottom, right = (-side % 4 for side in x.shape[2:])
    before, after = (k - 4) // 2, (k - 4 + 1) // 2
    x = F.pad(x, (before, after + right, before, after + bottom))
    x = model.patch_embed.norm(model.patch_embed.proj(x).permute(0, 2, 3, 1))
    if model.pos_embed is not None:
        pos = model.pos_embed.permute(0, 3, 1, 2)
        if pos.shape[2:] != x.shape[1:3]:
            pos = F.interpolate(pos, x.shape[1:3], mode='bicubic')
        x = x + pos.permute(0, 2, 3, 1)
    maps = []
    for i, stage in enumerate(model.stages):
        if i > 0:
            k = arch.kernels[i]
            b, h, w, _ = x.shape
            before, after = (k - 2) // 2, (k - 1) // 2
            padded = F.pad(x.permute(0, 3, 1, 2), (before, after + w % 2, before, after + h % 2))
            patches = F.unfold(padded, k, stride=2).transpose(1, 2)
            merged = stage.merging.reduction(stage.merging.norm(patches))
            x = merged.view(b, (h + 1) // 2, (w + 1) // 2, -1)
        fixed, split = model.window_sizes[i], arch.splits[i]
        for block in stage.blocks:
            x = x + attention(block, block.norm1(x), fixed, split)
            x = x + block.ffn.fc2(F.gelu(block.ffn.fc1(block.norm2(x))))
        maps.append(getattr(model, f'norm{i}')(x))
    return maps


@pytest.mark.parametrize('arch', [TINY, '8,4,3,1|4,2,2,1|4,2,2,1|2,1,2,2|32,20'])
@pytest.mark.parametrize(
    ('size', 'windows'),
    [
        ((64, 64), None),
        ((36, 44), None),  # windows that the splits do not tile
        ((64, 96), (8, 8, 4, 2)),
        ((101, 57), (8, 8, 4, 2)),  # the last windows are cut, and merged sides are odd
        ((90, 130), (7, 5, 3, 2)),
    ],
)
def test_agrees_with_the_plain_network(arch, size, windows):
    model = AsViT(arch, img_size=64, out_indices=(0, 1, 2, 3), window_size=windows)
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x = images(2, 3, *size).double()
    for fast, slow in zip(model(x), slow_forward(model, x), strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-12)


def test_float32_agrees_with_float64():
    model = AsViT('small', img_size=64).eval()
    x = images(1, 3, 64, 64)
    with torch.no_grad():
        single, double = model(x)[0], copy.deepcopy(model).double()(x.double())[0]
    assert (single - double).abs().max() < 1e-5 * double.abs().max()


def test_every_extreme_of_the_search_space_runs_at_small_images():
    for pick in (0, -1):
        arch = SEARCH_SPACE.decode(
            [range(len(values))[pick] for values in SEARCH_SPACE.choices.values()]
        )
        for size in (8, 32):
            output = AsViT(arch, img_size=size)(torch.zeros(2, 3, size, size))
            assert output[-1].isfinite().all()


@pytest.mark.parametrize('size', [(64, 64), (33, 70), (4, 4), (1, 9), (100, 57)])
@pytest.mark.parametrize('window_size', [None, 7, (8, 8, 4, 2)])
def test_any_size(size, window_size):
    model = AsViT(TINY, img_size=64, out_indices=(0, 1, 2, 3), window_size=window_size).eval()
    h, w = (-(-side // 4) for side in size)
    for i, out in enumerate(model(images(2, 3, *size))):
        assert out.shape == (2, model.architecture.widths[i], h, w)
        assert out.isfinite().all()
        h, w = (h + 1) // 2, (w + 1) // 2


def test_what_pads_a_window_reaches_no_token():
    """Padded tokens may hold anything: the tokens of the map come out the same."""
    torch.manual_seed(0)
    stage = AsViT(TINY, img_size=64).double().eval().stages[0]
    x = torch.randn(2, 7, 9, 16, dtype=torch.float64)
    tokens, window, mask = partition_windows(x, 2, None)
    assert window == 20
    assert mask.shape == (2 * 4, 1, 1, 20)
    assert mask.sum() == 2 * 7 * 9
    dirty = torch.where(mask.view(2, 80, 1), tokens, torch.full_like(tokens, 50.0))
    assert (dirty == 50).any()
    clean, changed = (
        reverse_windows(stage.blocks[0](given, window, mask), (7, 9), 2, None)
        for given in (tokens, dirty)
    )
    torch.testing.assert_close(changed, clean, rtol=0, atol=0)


def test_a_window_attends_to_its_own_tokens_only():
    model = AsViT(TINY, img_size=64, out_indices=(0,), use_abs_pos_embed=False).eval()
    x = images(1, 3, 64, 64)
    changed = x.clone()
    changed[:, :, :28, :28] += 1  # inside the first of 2 x 2 windows, away from the others' kernels
    difference = (model(x)[0] - model(changed)[0]).abs().amax((0, 1))
    assert difference[:8, :8].min() > 0
    assert difference[8:].max() == 0
    assert difference[:, 8:].max() == 0


def test_zeros_beyond_the_windows_of_an_image_leave_its_first_map_as_it_is():
    """As a batch of images of several sizes is padded: no window has tokens of both."""
    model = AsViT(TINY, img_size=64, out_indices=(0, 1), use_abs_pos_embed=False, window_size=8)
    model = model.double().eval()
    x = images(1, 3, 64, 96).double()
    first, second = model(x)
    padded, merged = model(F.pad(x, (0, 64, 0, 32)))
    torch.testing.assert_close(padded[:, :, :16, :24], first, rtol=1e-12, atol=1e-12)
    # A merging's kernel of 3 reaches into the padding.
    assert (merged[:, :, :8, :12] - second).abs().max() > 1e-6


@pytest.mark.parametrize('size', [(28, 28), (27, 31), (3, 3)])
def test_windows_reverse(size):
    x = images(2, *size, 5)
    for cut in ((4, None), (1, 7)):
        tokens, _, _ = partition_windows(x, *cut)
        assert torch.equal(reverse_windows(tokens, size, *cut), x)


def test_registered_once_and_built_from_every_scope():
    for scope in ('mmpretrain', 'mmdet', 'mmengine', 'asvit_mm'):
        with DefaultScope.overwrite_default_scope(scope):
            assert isinstance(
                MMPRETRAIN_MODELS.build(dict(type='asvit_mm.AsViT', arch=TINY)), AsViT
            )
    with DefaultScope.overwrite_default_scope('asvit_mm'):
        assert isinstance(MODELS.build(dict(type='AsViT', arch=TINY)), AsViT)
    assert MMPRETRAIN_MODELS.get('AsViT') is None


@pytest.mark.slow
@pytest.mark.parametrize('package', ['mmdet', 'mmengine'])
def test_built_in_a_fresh_process_without_custom_import(package):
    """No import of ours, whatever the toolbox's default scope."""
    code = (
        f'from {package}.registry import MODELS\n'
        f'from mmengine.registry import init_default_scope\ninit_default_scope({package!r})\n'
        f"model = MODELS.build(dict(type='asvit_mm.AsViT', arch={TINY!r}, out_indices=(0, 1, 2, 3)))\n"
        'print(type(model).__module__, type(model).__name__)'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stdout.strip().endswith('asvit_mm.models.asvit AsViT'), done.stderr


def test_token_stride_changes_the_grid_and_nothing_else():
    model = AsViT('8,2,2,1|3,2,3,1|2,1,2,1|3,1,2,1|16,16', img_size=64).eval()
    x = images(1, 3, 64, 64)
    before = model(x)[0]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    parameters = list(map(id, model.parameters()))
    for stride, dilation, grid in ((16, 2, 4), (8, 1, 8), (12, 1, 6)):
        model.set_token_stride(stride)
        assert model.token_stride == stride
        assert model.token_dilation == dilation
        assert model.embed(x).shape[1:3] == (grid, grid)
        assert model(x)[0].isfinite().all()
    model.set_token_stride(16, dilation=3)
    assert model.token_dilation == 3
    model.set_token_stride(4)
    torch.testing.assert_close(model(x)[0], before, rtol=0, atol=0)
    assert parameters == list(map(id, model.parameters()))
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key])


def test_the_stride_of_the_architecture_gives_the_full_grid():
    model = AsViT('4,2,2,1|2,1,2,1|2,1,2,1|2,1,2,1|16,16/2', img_size=32, out_indices=(0, 1, 2, 3))
    assert model.base_token_stride == model.token_stride == 2
    assert model.pos_embed.shape == (1, 16, 16, 16)
    maps = model.eval()(torch.rand(1, 3, 32, 32))
    assert [map_.shape[2] for map_ in maps] == [16, 8, 4, 2]
    model.set_token_stride(4)
    assert model(torch.rand(1, 3, 32, 32))[0].shape[2] == 8
    model.check_token_stride(6)
    with pytest.raises(InputError, match='not a multiple of 2'):
        model.check_token_stride(5)


def test_warns_of_windows_of_single_tokens():
    with pytest.warns(UserWarning, match='windows of stage 1, 2 are single tokens'):
        AsViT('4,8,2|2,4,2|2,1,2|2,1,2|16', img_size=32)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        AsViT('4,8,2|2,4,2|2,1,2|2,1,2|16', img_size=32, window_size=4)
        AsViT('4,8,2|2,4,2|2,2,2|2,1,2|16')


@pytest.mark.parametrize('size', [(64, 64), (57, 101)])
def test_maps_of_coarse_tokens_keep_the_sizes_of_fine_ones(size):
    arch = '8,2,2,1|3,2,3,1|2,1,2,1|3,1,2,1|16,16'
    plain = AsViT(arch, 64, out_indices=(0, 2, 3), window_size=4).eval()
    model = AsViT(arch, 64, out_indices=(0, 2, 3), window_size=4, keep_map_sizes=True).eval()
    model.load_state_dict(plain.state_dict())
    x = images(1, 3, *size)
    full = plain(x)
    for kept, one in zip(model(x), full, strict=True):
        assert torch.equal(kept, one)
    for stride in (8, 16):
        model.set_token_stride(stride)
        plain.set_token_stride(stride)
        for kept, coarse, one in zip(model(x), plain(x), full, strict=True):
            assert kept.shape == one.shape
            assert coarse.shape[2] < one.shape[2]
            assert torch.equal(kept, F.interpolate(coarse, one.shape[2:], mode='bilinear'))


@pytest.mark.parametrize('rounding', ['up', 'down', 'over'])
def test_rounding_of_odd_grids(rounding):
    """One set of weights for every rule; the maps have the sizes that are counted."""
    arch = '8,2,2,1|3,2,3,1|2,1,2,1|3,1,2,1|16,16'
    model = AsViT(arch, 56, out_indices=(0, 1, 2, 3), merge_rounding=rounding).eval()
    model.load_state_dict(AsViT(arch, 56, out_indices=(0, 1, 2, 3)).state_dict())
    for stride in (16, 8, 4):
        model.set_token_stride(stride)
        with torch.no_grad():
            maps = model(images(1, 3, 56, 56))
        assert tuple(tuple(one.shape[2:]) for one in maps) == model.token_grids(stride)


def test_position_embedding_of_another_size_is_resampled_when_loaded():
    small, large = AsViT(TINY, img_size=64), AsViT(TINY, img_size=(96, 128))
    assert large.pos_embed.shape == (1, 24, 32, 16)
    state = small.state_dict()
    large.load_state_dict(state)
    assert state['pos_embed'].shape == (1, 16, 16, 16)
    expected = F.interpolate(small.pos_embed.permute(0, 3, 1, 2), (24, 32), mode='bicubic')
    torch.testing.assert_close(large.pos_embed.permute(0, 3, 1, 2), expected, rtol=0, atol=0)
    x = images(1, 3, 96, 128)
    torch.testing.assert_close(large.eval()(x)[0], small.eval()(x)[0])


def test_checkpointing_and_dropout_give_the_same_gradients():
    x = images(2, 3, 32, 32)
    gradients = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        model = AsViT(
            TINY,
            img_size=32,
            with_cp=with_cp,
            drop_rate=0.1,
            drop_path_rate=0.3,
            act_cfg=dict(type='ReLU'),
        ).train()
        torch.manual_seed(1)
        model(x)[0].square().mean().backward()
        gradients.append([p.grad for p in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)


@pytest.mark.parametrize('with_cp', [False, True])
def test_mixed_precision_at_detection_sizes_stays_near_single_precision(with_cp):
    """Four maps of an odd size under autocast, windows masked at the border, and all weights' gradients."""
    torch.manual_seed(0)
    model = AsViT(
        '5,2,2,2|3,2,3,1|2,1,2,1|3,1,2,1|16,32',
        64,
        out_indices=(0, 1, 2, 3),
        window_size=(8, 8, 4, 2),
        with_cp=with_cp,
    ).double()
    x = torch.randn(2, 3, 101, 57, dtype=torch.float64)
    exact = model(x)
    # Not their squares: normed maps have the same, whatever the weights are.
    chosen = [torch.randn_like(one) for one in exact]
    sum((one * w).mean() for one, w in zip(exact, chosen, strict=True)).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    model.float()
    with torch.autocast('cpu', torch.bfloat16):
        maps = model(x.float())
        sum((one.float() * w).mean() for one, w in zip(maps, chosen, strict=True)).backward()
    for one, other in zip(maps, exact, strict=True):
        assert (one - other).abs().max() < 0.05 * other.abs().max()
    for name, parameter in model.named_parameters():
        assert parameter.grad.dtype == torch.float32
        error = (parameter.grad - expected[name]).norm() / expected[name].norm()
        assert error < 0.1, (name, error)


def test_stochastic_depth_drops_whole_images():
    """A block is dropped for an image, not for some of its windows."""
    torch.manual_seed(0)
    model = AsViT(TINY, img_size=32, drop_path_rate=0.9, out_indices=(1,)).train()
    block = model.stages[1].blocks[1]
    x = torch.randn(16, 4 * 4, 32)  # 4 windows of 4 tokens
    changed = (block(x, 4) - x).abs().amax(2) > 0  # (images, tokens)
    assert changed.any()
    assert not changed.all()
    assert (changed.all(1) | ~changed.any(1)).all()


def test_drop_path_grows_linearly_to_the_rate():
    model = AsViT(TINY, drop_path_rate=0.4)
    rates = [getattr(b.drop_path, 'drop_prob', 0.0) for s in model.stages for b in s.blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(('frozen', 'stages'), [(-1, 0), (0, 0), (2, 2), (4, 4)])
def test_frozen_stages(frozen, stages):
    model = AsViT(TINY, img_size=32, frozen_stages=frozen, out_indices=(0, 1, 2, 3), drop_rate=0.5)
    assert model.train() is model
    assert model.patch_embed.proj.weight.requires_grad == (frozen < 0)
    assert model.pos_embed.requires_grad == (frozen < 0)
    for i, stage in enumerate(model.stages):
        learns = i >= stages
        assert all(p.requires_grad == learns for p in stage.parameters())
        assert stage.training == learns
        assert getattr(model, f'norm{i}').weight.requires_grad == learns
    assert model.eval() is model


@pytest.mark.parametrize(
    ('given', 'stages'), [(-1, (3,)), ((-1,), (3,)), (2, (2,)), ([0, -2], (0, 2)), (-4, (0,))]
)
def test_outputs_by_a_number_or_from_the_end(given, stages):
    model = AsViT(TINY, img_size=32, out_indices=given)
    assert model.out_indices == stages
    assert model.embed_dims == 16
    assert model.num_features == [16, 32, 64, 128]
    maps = model(images(1, 3, 32, 32))
    assert [one.shape[1] for one in maps] == [model.num_features[i] for i in stages]


def test_stages_behind_the_last_output_are_not_built(tmp_path):
    whole = AsViT(TINY, img_size=32, out_indices=(0, 1, 2, 3)).eval()
    model = AsViT(TINY, img_size=32, out_indices=(0, 1))
    assert len(model.stages) == 2
    sum(one.sum() for one in model(images(1, 3, 32, 32))).backward()
    # Distributed training stops at parameters without a gradient.
    assert all(p.grad is not None for p in model.parameters())
    model.load_state_dict(whole.state_dict(), strict=True)
    torch.save({f'backbone.{k}': v + 1 for k, v in whole.state_dict().items()}, tmp_path / 'a.pth')
    given = dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth'), prefix='backbone.')
    pretrained = AsViT(TINY, img_size=32, out_indices=(0, 1), init_cfg=given)
    pretrained.init_weights()
    x = images(1, 3, 32, 32)
    for one, other in zip(model.eval()(x), whole(x), strict=False):
        assert torch.equal(one, other)
    weight = 'stages.1.blocks.0.attn.qkv.weight'
    assert torch.equal(pretrained.state_dict()[weight], whole.state_dict()[weight] + 1)
    with pytest.raises(RuntimeError, match=r'stages\.4'):
        model.load_state_dict({**whole.state_dict(), 'stages.4.x': torch.ones(1)})


def test_dropout_of_attention_weights():
    x = images(2, 3, 32, 32)
    model = AsViT(TINY, img_size=32, attn_drop_rate=0.5)
    plain = AsViT(TINY, img_size=32)
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model.eval()(x)[0], plain.eval()(x)[0])
    torch.manual_seed(0)
    first, second = model.train()(x)[0], model(x)[0]
    assert not torch.equal(first, second)


def test_identity_norms_are_a_setting():
    model = AsViT(TINY, norm_cfg=None, out_indices=(0, 3))
    assert not any(isinstance(module, nn.LayerNorm) for module in model.modules())
    assert not any('norm' in name for name, _ in model.named_parameters())


def test_initialisation_is_the_papers():
    torch.manual_seed(0)
    model = AsViT('small')
    model.init_weights()
    for name, parameter in model.named_parameters():
        if 'norm' in name:
            assert (parameter == (1 if name.endswith('weight') else 0)).all(), name
        elif name.startswith('patch_embed.proj'):
            assert parameter.abs().max() <= (3 * 8 * 8) ** -0.5, name
        elif name.endswith('bias'):
            assert (parameter == 0).all(), name
        else:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.05), name


def test_maps_are_channels_first_where_they_are_looked_at():
    """By hooks on the last norms, as class activation maps and feature extractors look."""
    for norm_cfg in (LN, dict(type='LN', eps=1e-3), None):
        model = AsViT(TINY, img_size=32, norm_cfg=norm_cfg, out_indices=(1, 3)).eval()
        seen = {}
        for i in model.out_indices:
            getattr(model, f'norm{i}').register_forward_hook(
                lambda module, inputs, output, seen=seen: seen.update({module: output})
            )
        maps = model(images(1, 3, 32, 32))
        assert all(torch.equal(*pair) for pair in zip(maps, seen.values(), strict=True))
        assert [one.shape[1] for one in maps] == [32, 128]
        assert all(one.is_contiguous() for one in maps)
    assert AsViT(TINY, norm_cfg=dict(type='LN', eps=1e-3)).norm3.eps == 1e-3
    assert isinstance(AsViT(TINY).norm3, MapNorm)


def test_every_linear_layer_is_torchs_and_is_called():
    """So that adapters, quantization, pruning and hooks, which go by type, find every one."""
    model = AsViT(TINY, img_size=32).eval()
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    shapes = {}
    for module in linear:
        assert type(module) is nn.Linear
        module.register_forward_hook(
            lambda module, inputs, output: shapes.update(
                {module: (inputs[0].shape[-1], output.shape[-1])}
            )
        )
    model(images(1, 3, 32, 32))
    assert shapes == {module: (module.in_features, module.out_features) for module in linear}


@pytest.mark.parametrize('gradients', [False, True])
def test_traced_by_torchscript(gradients):
    model, x = AsViT(TINY, img_size=36, out_indices=(1, 3)).eval(), images(2, 3, 36, 44)
    with torch.set_grad_enabled(gradients), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        traced = torch.jit.trace(model, x)
        for one, other in zip(traced(x), model(x), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_traced_by_fx_at_any_size():
    model = AsViT(TINY, img_size=32, out_indices=(1, 3), window_size=4).eval()
    graph = torch.fx.symbolic_trace(model)
    for size in ((32, 32), (36, 44)):
        x = images(2, 3, *size)
        assert all(torch.equal(one, other) for one, other in zip(graph(x), model(x), strict=True))
    extract = create_feature_extractor(model, {'stages.1.blocks.0': 'block', 'norm3': 'last'})
    found = extract(images(2, 3, 32, 32))
    assert found['last'].shape == (2, 128, 1, 1)
    assert found['block'].shape == (2, 16, 32)


@pytest.mark.slow
def test_compiled_patch_merging_calls_layers_that_are_not_plain():
    x, merging = images(2, 6, 8, 16), AsViT(TINY, img_size=32).stages[1].merging
    for name, value in merging.named_parameters():
        nn.init.normal_(value, 1.0 if name == 'norm.weight' else 0.0)
    expected = merging(x)
    torch._dynamo.reset()
    compiled = torch.compile(merging, backend='aot_eager', fullgraph=True)
    torch.testing.assert_close(compiled(x), expected, rtol=1e-4, atol=1e-4)
    merging.reduction.register_forward_hook(lambda module, args, out: out + 1)
    torch._dynamo.reset()
    torch.testing.assert_close(compiled(x), expected + 1, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('training', [False, True])
def test_compiles_into_one_graph_and_once_for_a_token_grid(training):
    torch._dynamo.reset()
    counter = CompileCounterWithBackend('aot_eager')
    model = AsViT(TINY, img_size=64).train(training)
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    x = images(2, 3, 64, 64)
    for graphs, stride in enumerate((16, 4), start=1):
        model.set_token_stride(stride)
        for _ in range(2):
            torch.testing.assert_close(compiled(x)[0], model(x)[0], rtol=1e-4, atol=1e-5)
        assert counter.frame_count == graphs


def test_quantized_dynamically():
    model, x = AsViT(TINY, img_size=32).eval(), images(2, 3, 32, 32)
    linear = sum(isinstance(module, nn.Linear) for module in model.modules())
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        small = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    quantized = [m for m in small.modules() if isinstance(m, torch.ao.nn.quantized.dynamic.Linear)]
    assert len(quantized) == linear
    with torch.no_grad():
        one, other = small(x)[0], model(x)[0]
    assert 0 < (one - other).abs().max() < 0.1 * other.abs().max()


def test_adapters_on_every_linear_layer():
    """mmpretrain's LoRA: frozen weights, and gradients of the adapters' alone."""
    backbone = dict(type='asvit_mm.AsViT', arch=TINY, img_size=32)
    targets = [dict(type=name) for name in ('qkv', 'proj', 'fc1', 'fc2', 'reduction')]
    for target in targets:
        if target['type'] == 'proj':  # of attention: the embedding's is a convolution
            target['type'] = r'.*attn\.proj'
    model = LoRAModel(backbone, rank=2, alpha=2, targets=targets)
    adapted = [name for name, module in model.named_modules() if type(module) is LoRALinear]
    linear = [name for name, m in AsViT(TINY).named_modules() if isinstance(m, nn.Linear)]
    assert len(adapted) == len(linear)
    model(images(2, 3, 32, 32))[0].square().mean().backward()
    learning = [name for name, p in model.named_parameters() if p.grad is not None]
    assert len(learning) == 2 * len(linear)
    assert all('lora_' in name for name in learning)


@pytest.mark.parametrize(
    ('kwargs', 'said'),
    [
        (dict(arch='tiny'), "'tiny' is neither a preset"),
        (dict(out_indices=(4,)), 'out_indices'),
        (dict(out_indices=()), 'out_indices'),
        (dict(out_indices=(3, 1)), 'out_indices'),
        (dict(out_indices=-5), 'out_indices = -5'),
        (dict(out_indices=(-1, 3)), 'out_indices'),
        (dict(frozen_stages=5), 'frozen_stages'),
        (dict(img_size=(224,)), 'img_size'),
        (dict(window_size=(7, 7)), 'window_size'),
        (dict(window_size=0), 'window_size'),
        (dict(token_stride=2), 'token stride 2'),
        (dict(merge_rounding='near'), "merge_rounding = 'near'"),
        (dict(with_cp='blocks'), "with_cp = 'blocks'"),
        (dict(in_channels=0), 'in_channels = 0'),
        (dict(drop_rate=2), 'drop_rate = 2'),
        (dict(drop_path_rate='a'), "drop_path_rate = 'a'"),
        (dict(norm_cfg='LN'), "norm_cfg = 'LN'"),
        (dict(init_cfg='weights.pth'), "init_cfg = 'weights.pth'"),
        (dict(init_cfg=[1]), 'init_cfg = '),
        (dict(attn_drop_rate=1), 'attn_drop_rate = 1'),
        (dict(drop_path_rate=1.5), 'drop_path_rate = 1.5'),
        (dict(drop_path_rate=-0.1), 'drop_path_rate = -0.1'),
        (dict(norm_cfg=dict(type='BN')), 'norm_cfg'),
        (dict(act_cfg=None), 'act_cfg = None'),
        (dict(out_indices=[True]), 'out_indices'),
        (dict(frozen_stages=True), 'frozen_stages'),
    ],
)
def test_bad_settings_are_refused_in_one_line(kwargs, said):
    with pytest.raises(InputError) as error:
        AsViT(**kwargs)
    assert said in str(error.value)
    assert '\n' not in str(error.value)


def test_drawing_weights_keeps_what_the_caller_has_silenced():
    logging.disable(logging.ERROR)
    try:
        build_classifier(classifier_config('seed', 10), seed=0)
        assert logging.root.manager.disable == logging.ERROR
    finally:
        logging.disable(logging.NOTSET)
