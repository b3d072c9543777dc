import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from asvit_mm.analysis.benchmark import build_model
from asvit_mm.errors import InputError
from asvit_mm.models import AsViT
from asvit_mm.models.chunked import parts
from asvit_mm.models.inference import optimize_for_inference
from asvit_mm.models.layers import QKVProjection
from asvit_mm.models.merging import PatchMerging
from tests.test_models.test_asvit import LN, TINY, images


def changed(model):
    """Weights, biases and norms away from the values at which a mistake would not show."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def relative_error(value, exact):
    return ((value.double() - exact).abs().max() / exact.abs().max()).item()


@pytest.mark.parametrize('kernel', [2, 3, 4])
@pytest.mark.parametrize('size', [(8, 8), (7, 9), (1, 2)])
@pytest.mark.parametrize('rounding', ['up', 'down', 'over'])
def test_merging_by_convolution_is_the_norm_and_the_linear_layer(kernel, size, rounding):
    torch.manual_seed(0)
    merging = changed(PatchMerging(6, 10, kernel, LN, rounding)).double()
    x = 3 + torch.randn(2, *size, 6, dtype=torch.float64)
    plain = merging(x)
    with torch.no_grad():
        fast = merging(x)
    assert not torch.equal(fast, plain)  # another way of computing
    torch.testing.assert_close(fast, plain.detach(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(('offset', 'tolerance'), [(0, 5e-6), (3, 5e-6), (30, 3e-5), (300, 2e-3)])
def test_merging_by_convolution_keeps_its_digits_in_float32(offset, tolerance):
    """A common offset of all tokens, of which the norm knows nothing, costs few digits."""
    torch.manual_seed(0)
    merging = changed(PatchMerging(88, 176, 4, LN))
    x = offset + torch.randn(2, 8, 8, 88)
    with torch.no_grad():
        single = merging(x)
    exact = merging.double()(x.double()).detach()
    assert relative_error(single, exact) < tolerance


def test_merging_of_nearly_equal_tokens_is_finite():
    merging = changed(PatchMerging(8, 16, 2, LN))
    with torch.no_grad():
        assert merging(100 + 1e-3 * torch.rand(2, 8, 8, 8)).isfinite().all()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_takes_the_plain_path(dtype):
    torch.manual_seed(0)
    merging = changed(PatchMerging(88, 176, 4, LN))
    x = 30 + torch.randn(2, 8, 8, 88)
    with torch.autocast('cpu', dtype):
        plain = merging(x)
        with torch.no_grad():
            assert torch.equal(merging(x), plain)
    merging.to(dtype)
    with torch.no_grad():
        assert torch.equal(merging(x.to(dtype)), merging.requires_grad_()(x.to(dtype)))


def test_what_replaces_or_watches_the_linear_layer_is_called():
    merging = changed(PatchMerging(6, 10, 2, LN))
    seen = []
    handle = merging.reduction.register_forward_hook(lambda *args: seen.append(1))
    with torch.no_grad():
        merging(torch.randn(1, 4, 4, 6))
    assert seen
    handle.remove()
    merging.reduction = torch.nn.Sequential(merging.reduction)
    with torch.no_grad():
        assert merging(torch.randn(1, 4, 4, 6)).shape == (1, 2, 2, 10)


@pytest.mark.parametrize(
    'norm_cfg', [dict(type='LN', bias=False), dict(type='LN', elementwise_affine=False)]
)
def test_norms_without_weights_run_plain_and_packed(norm_cfg):
    model = AsViT(TINY, img_size=32, norm_cfg=norm_cfg).eval()
    x = images(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            optimize_for_inference(model)(x)[0], model(x)[0], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize('width', [88, 44, 180])
def test_padded_heads_change_nothing(width):
    """Attention at the padded width equals attention at the head's own."""
    torch.manual_seed(0)
    model = changed(AsViT(f'5,2,2,1|3,2,3,1|2,1,2,1|3,1,2,1|32,{width}', img_size=32)).double()
    x = images(2, 3, 32, 32).double()
    fused = model(x)[0]
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        explicit = model(x)[0]
    torch.testing.assert_close(fused, explicit, rtol=1e-10, atol=1e-12)
    qkv = model.stages[0].blocks[0].attn.qkv
    assert isinstance(qkv, QKVProjection)
    assert qkv(torch.zeros(1, 1, width, dtype=torch.float64)).shape[-1] % 8 == 0


@pytest.mark.parametrize(
    ('arch', 'size', 'kwargs'),
    [
        (TINY, (64, 64), {}),
        (TINY, (60, 52), dict(window_size=7)),
        (TINY, (33, 70), dict(norm_cfg=None, use_abs_pos_embed=False)),
        ('8,2,3,2|4,1,2,1|4,1,4,2|4,1,6,1|32,44', (96, 64), {}),
    ],
)
def test_packed_agrees_with_the_plain_model(arch, size, kwargs):
    torch.manual_seed(0)
    model = changed(AsViT(arch, img_size=64, out_indices=(0, 1, 2, 3), **kwargs))
    packed = optimize_for_inference(model)
    x = images(2, 3, *size)
    with torch.no_grad():
        exact = model.double()(x.double())
        for fast, slow in zip(packed(x), exact, strict=True):
            assert (fast - slow).abs().max() < 1e-5 * slow.abs().max()


def test_packed_in_several_chunks(monkeypatch):
    """Stages with more tokens than a chunk takes; an input that needs a gradient gets none."""
    for name, value in (('ROWS', 7), ('SIZE', 1)):
        monkeypatch.setattr(parts, name, value)
    torch.manual_seed(0)
    model = changed(AsViT(TINY, img_size=64, out_indices=(0, 1, 2, 3)))
    x = images(2, 3, 60, 52)
    found = optimize_for_inference(model)(x.clone().requires_grad_())
    for fast, slow in zip(found, model.double()(x.double()), strict=True):
        assert (fast - slow).abs().max() < 1e-5 * slow.abs().max()


def test_packed_classifier_and_the_original_is_left_alone():
    model = build_model('5,2,2,1|3,2,3,1|2,1,2,1|3,1,2,1|16,16').eval()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    packed = optimize_for_inference(model)
    x = images(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(packed(x), model(x), rtol=1e-4, atol=1e-6)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ('model', 'said'),
    [
        (torch.nn.Linear(2, 2), 'no AsViT'),
        (AsViT(TINY).double(), 'float64'),
        (optimize_for_inference(AsViT(TINY)), 'packed already'),
        (AsViT(TINY, act_cfg=dict(type='ReLU')), 'only GELU'),
        (AsViT(TINY, act_cfg=dict(type='GELU', approximate='tanh')), 'only GELU'),
    ],
)
def test_what_cannot_be_packed_is_refused(model, said):
    with pytest.raises(InputError, match=said):
        optimize_for_inference(model)


@pytest.mark.parametrize('rounding', ['up', 'down', 'over'])
def test_packed_mergings_round_odd_grids_as_the_model_does(rounding):
    torch.manual_seed(0)
    model = changed(AsViT(TINY, img_size=56, merge_rounding=rounding)).eval()
    x = images(1, 3, 56, 56)
    with torch.no_grad():
        plain, packed = (network(x)[0] for network in (model, optimize_for_inference(model)))
    torch.testing.assert_close(packed, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('training', [False, True])
def test_compiles_into_one_graph_and_once_for_a_token_grid(training):
    torch._dynamo.reset()  # it remembers which sizes have changed in other tests
    torch.manual_seed(0)
    model = changed(AsViT(TINY, img_size=32)).train(training)
    counter = CompileCounterWithBackend('aot_eager')
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    for step in range(3):
        x = images(2, 3, 32, 32, seed=step)
        torch.testing.assert_close(compiled(x)[0], model(x)[0], rtol=1e-4, atol=1e-5)
    assert counter.frame_count == 1
