import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import BaseTorchFunctionMode
from torch.profiler import profile
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from asvit_mm.models import AsViT
from asvit_mm.ops import attention, native
from asvit_mm.ops.attention import attend, gradient, takes_native

pytestmark = pytest.mark.skipif(
    native.library(attention.SOURCE) is None,
    reason='no compiler: test_native says what happens then',
)


def heads(*shape, seed=0, dtype=torch.float32, size=1.0):
    batch, tokens, number, dim = shape
    generator = torch.Generator().manual_seed(seed)
    made = torch.randn(batch, tokens, 3, number, dim, generator=generator, dtype=dtype)
    return (size * made).requires_grad_()


def some_mask(batch, tokens, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(batch, 1, 1, tokens, generator=generator) < 0.5
    mask[..., seed % tokens] = True
    return mask


def explicit(qkv, scale, mask=None):
    q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
    scores = scale * q @ k.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2)


def agree(qkv, scale, mask=None):
    """Outputs and gradients against the explicit form in float64."""
    assert takes_native(qkv)
    out = attend(qkv, scale, mask)
    assert type(out.grad_fn).__name__ == '_NativeAttentionBackward'
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    (of_qkv,) = torch.autograd.grad(out, qkv, grad)
    twin = qkv.detach().double().requires_grad_()
    expected = explicit(twin, scale, mask)
    (of_twin,) = torch.autograd.grad(expected, twin, grad.double())
    for got, want in ((out, expected), (of_qkv, of_twin)):
        largest = want.abs().max().item()
        torch.testing.assert_close(got.double(), want, rtol=0, atol=1e-5 * largest + 1e-7)
    return of_qkv


SHAPES = [
    (2, 1, 1, 1),
    (1, 7, 3, 5),
    (3, 16, 2, 8),
    (2, 49, 4, 24),
    (1, 64, 2, 22),
    (1, 65, 2, 17),
    (2, 96, 1, 32),
    (1, 97, 2, 33),
    (1, 196, 3, 64),
    (1, 784, 2, 22),
]


@pytest.mark.parametrize('shape', SHAPES, ids=str)
@pytest.mark.parametrize('masked', [False, True])
def test_values_and_gradients_of_the_explicit_form(shape, masked):
    agree(heads(*shape), shape[-1] ** -0.5, some_mask(*shape[:2]) if masked else None)


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 220), st.integers(1, 3), st.integers(1, 70)),
    st.floats(0.01, 0.5),
    st.booleans(),
    st.integers(0, 1000),
)
@settings(max_examples=40)
def test_any_shape(shape, scale, masked, seed):
    agree(heads(*shape, seed=seed), scale, some_mask(*shape[:2], seed) if masked else None)


@pytest.mark.parametrize('capability', ['AVX2', 'DEFAULT'])
def test_narrower_registers(capability, monkeypatch, tmp_path):
    if torch.backends.cpu.get_cpu_capability() not in ('AVX2', 'AVX512'):
        pytest.skip('the CPU has no such instructions')
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: capability)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    native.library.cache_clear()
    try:
        for shape in SHAPES:
            agree(heads(*shape), shape[-1] ** -0.5, some_mask(*shape[:2]))
    finally:
        native.library.cache_clear()
    assert len(list(tmp_path.rglob('attention-*.so'))) == 1


def test_scores_of_hundreds():
    """Rounded as float32 rounds them, and not much worse than by torch's kernel."""
    qkv = heads(1, 130, 2, 24, size=5.0).detach()
    expected = explicit(qkv.double(), 1.0)
    q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
    torchs = F.scaled_dot_product_attention(q, k, v, scale=1.0).transpose(1, 2)
    assert (q @ k.mT).abs().max() > 300
    errors = [(out - expected).abs().max().item() for out in (attend(qkv, 1.0), torchs)]
    assert errors[0] < 5 * errors[1] < 0.01


def test_what_may_not_be_attended_to_has_no_gradient():
    qkv, mask = heads(2, 120, 2, 8), some_mask(2, 120)
    of_qkv = agree(qkv, 0.3, mask)
    assert not of_qkv[:, :, 1:][~mask[:, 0, 0]].any()


@pytest.mark.parametrize('seen', [(110, 111), (0, 96), (100, 197), (3, 195), (10, 203), (0, 289)])
def test_blocks_of_the_keys_that_are_seen(seen):
    mask = torch.zeros(1, 1, 1, 300, dtype=torch.bool)
    mask[..., slice(*seen)] = True
    agree(heads(1, 300, 2, 8), 0.3, mask)


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_what_is_hidden_leaves_no_trace(value):
    qkv, mask = heads(1, 120, 2, 8).detach(), some_mask(1, 120)
    expected = attend(qkv, 0.3, mask)
    hidden = mask[0, 0, 0].logical_not()
    qkv[:, hidden, 1:] = value
    qkv.requires_grad_()
    out = attend(qkv, 0.3, mask)
    assert torch.equal(out, expected)
    (of_qkv,) = torch.autograd.grad(out.sum(), qkv)
    assert of_qkv.isfinite().all()
    assert not of_qkv[:, hidden, 1:].any()


# Of the numbers that are none, one carries a payload in the bits that an exponent is made of.
NO_NUMBERS = [math.nan, torch.tensor([0x7FC00001], dtype=torch.int32).view(torch.float32).item()]


@pytest.mark.parametrize('value', NO_NUMBERS)
def test_what_is_no_number_stays_none(value):
    qkv = heads(1, 100, 1, 8).detach()
    qkv[0, 50, 0] = value
    out = attend(qkv, 0.3)
    assert out[0, 50].isnan().all()
    assert out[0, torch.arange(100) != 50].isfinite().all()
    qkv = heads(1, 100, 1, 8).detach()
    qkv[0, 20, 1] = value
    assert attend(qkv, 0.3).isnan().all()
    qkv = heads(1, 100, 1, 8).detach()
    qkv[0, 20, 2, :, 3] = value
    out = attend(qkv, 0.3)
    assert out[..., 3].isnan().all()
    assert out[..., :3].isfinite().all()


def test_an_infinite_score_leaves_no_number():
    qkv = heads(1, 100, 1, 8).detach().abs()
    qkv[0, 20, 1, :, 0] = math.inf
    assert attend(qkv, 0.3).isnan().all()


def test_scores_without_an_end_leave_no_number():
    """As the softmax of nothing but minus infinity."""
    qkv = torch.ones(1, 4, 3, 1, 1)
    qkv[:, :, 0], qkv[:, :, 1] = 1e30, -1e30
    assert attend(qkv, 1.0).isnan().all()
    qkv.requires_grad_()
    (of_qkv,) = torch.autograd.grad(attend(qkv, 1.0).sum(), qkv)
    assert of_qkv[:, :, 2].isnan().all()


@pytest.mark.parametrize('parts', [2, 4])
def test_other_than_three_parts_are_refused(parts):
    with pytest.raises(ValueError, match='unpack'):
        attend(torch.randn(2, 9, parts, 2, 4), 0.5)


@pytest.mark.parametrize(('name', 'arrays'), [('attention_forward', 4), ('attention_backward', 6)])
def test_too_little_memory(name, arrays):
    """More than there are addresses; nothing is read or written then."""
    one = torch.zeros(1)
    with pytest.raises(MemoryError, match='no memory to work in'):
        attention._call(name, (one,) * arrays, torch.Size((1, 1 << 45, 3, 1, 1)), 1.0)


def test_a_profile_names_the_kernel():
    with profile() as profiler, torch.no_grad():
        attend(torch.randn(1, 9, 3, 2, 4), 0.5)
    assert 'asvit_mm::attention_forward' in {event.key for event in profiler.key_averages()}


def test_results_do_not_depend_on_the_threads():
    qkv, grad = heads(3, 150, 2, 22), torch.randn(3, 150, 2, 22)
    results, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            out = attend(qkv, 0.2)
            results.append((out, *torch.autograd.grad(out, qkv, grad)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_parts_that_are_not_contiguous():
    qkv = heads(2, 3, 40, 8).transpose(1, 3)[:, ::2].detach()  # (2, 4, 40, 3, 3), in another order
    qkv = qkv.permute(0, 2, 3, 4, 1).requires_grad_()
    assert not qkv.is_contiguous()
    agree(qkv, 0.5)


def test_no_gradient_is_kept_where_none_is_wanted():
    with torch.no_grad():
        assert not attend(heads(1, 9, 2, 4), 0.5).requires_grad
    assert not attend(heads(1, 9, 2, 4).detach(), 0.5).requires_grad


def test_no_images():
    assert attend(heads(0, 9, 2, 4), 0.5).shape == (0, 9, 2, 4)


@pytest.mark.parametrize('masked', [False, True])
def test_second_derivatives(masked):
    qkv, mask = heads(2, 20, 2, 6), some_mask(2, 20) if masked else None

    def curvature(function, at):
        (slope,) = torch.autograd.grad(function(at, 0.4, mask).tanh().sum(), at, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), at)[0]

    expected = curvature(explicit, qkv.detach().double().requires_grad_())
    torch.testing.assert_close(curvature(attend, qkv).double(), expected, rtol=1e-4, atol=1e-4)
    other = qkv.detach().transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()
    assert not other.is_contiguous()
    torch.testing.assert_close(curvature(attend, other).double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('masked', [False, True])
def test_gradient_in_plain_operations(masked):
    qkv, mask = heads(2, 20, 2, 6, dtype=torch.float64), some_mask(2, 20) if masked else None
    grad = torch.randn(2, 20, 2, 6, dtype=torch.float64)
    (expected,) = torch.autograd.grad(explicit(qkv, 0.4, mask), qkv, grad)
    torch.testing.assert_close(gradient(qkv, 0.4, mask, grad), expected)


def test_batched_gradients():
    qkv = heads(2, 20, 2, 6)
    out = attend(qkv, 0.4)
    directions = torch.randn(3, *out.shape)
    (batched,) = torch.autograd.grad(out, qkv, directions, is_grads_batched=True, retain_graph=True)
    for got, direction in zip(batched, directions, strict=True):
        (want,) = torch.autograd.grad(out, qkv, direction, retain_graph=True)
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_masks_of_other_kinds_are_torchs():
    qkv = heads(2, 20, 2, 6)
    bias = torch.randn(2, 1, 20, 20)
    out = attend(qkv, 0.4, bias)
    q, k, v = (part.transpose(1, 2) for part in qkv.double().unbind(2))
    expected = (0.4 * q @ k.mT + bias).softmax(-1) @ v
    torch.testing.assert_close(out.double(), expected.transpose(1, 2), rtol=1e-4, atol=1e-5)


def test_torchs_operation_where_somebody_looks():
    qkv = heads(2, 20, 2, 6)
    x = qkv.detach()
    assert takes_native(qkv)
    assert not takes_native(qkv.double())
    assert not takes_native(x.to('meta'))
    assert not takes_native(x.as_subclass(Wrapped))
    assert not takes_native(torch._neg_view(x))
    assert not takes_native(torch._efficientzerotensor(x.shape))
    for looking in (
        sdpa_kernel(SDPBackend.MATH),
        torch.autocast('cpu', torch.bfloat16),
        FlopCounterMode(display=False),
        BaseTorchFunctionMode(),
        forward_ad.dual_level(),
    ):
        with looking:
            assert not takes_native(qkv)
    seen = []
    torch.func.vmap(lambda x: seen.append(takes_native(x)) or x)(x)
    torch.jit.trace(lambda x: seen.append(takes_native(x)) or x + 1, x, check_trace=False)
    assert seen == [False, False]


class Wrapped(torch.Tensor):
    pass


def test_what_sees_the_plain_operation_gets_its_values():
    qkv = heads(2, 20, 2, 6)
    x, direction, expected = qkv.detach(), torch.randn(qkv.shape), explicit(qkv, 0.4)
    with sdpa_kernel(SDPBackend.MATH):  # torch's fused kernel is known to none of these
        with FlopCounterMode(display=False) as counter:
            attend(qkv, 0.4)
        with forward_ad.dual_level():
            dual = attend(forward_ad.make_dual(x, direction), 0.4)
            tangent = forward_ad.unpack_dual(dual).tangent
        want = torch.func.jvp(lambda x: explicit(x, 0.4), (x,), (direction,))[1]
        mapped = torch.func.vmap(lambda x: attend(x[None], 0.4)[0])(x)
    assert counter.get_total_flops() == 2 * 2 * 2 * 20 * 20 * 6 * 2
    torch.testing.assert_close(tangent, want, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mapped, expected.detach(), rtol=1e-4, atol=1e-5)
    compiled = torch.compile(lambda x: attend(x, 0.4), fullgraph=True, backend='aot_eager')
    torch.testing.assert_close(compiled(qkv), expected, rtol=1e-4, atol=1e-5)


def test_a_gradient_of_zeros_without_memory():
    qkv = heads(1, 9, 2, 4)
    out = attend(qkv, 0.4)
    (got,) = torch.autograd.grad(out, qkv, torch._efficientzerotensor(out.shape))
    assert not got.any()


@pytest.mark.parametrize('reentrant', [False, True])
def test_checkpointed(reentrant):
    qkv, grad = heads(2, 40, 2, 6), torch.randn(2, 40, 2, 6)
    (expected,) = torch.autograd.grad(attend(qkv, 0.4), qkv, grad)
    checkpoint(attend, qkv, 0.4, use_reentrant=reentrant).backward(grad)
    assert torch.equal(qkv.grad, expected)


def test_what_is_kept_may_come_back_in_another_layout():
    qkv, grad = heads(2, 40, 2, 6), torch.randn(2, 40, 2, 6)
    (expected,) = torch.autograd.grad(attend(qkv, 0.4), qkv, grad)

    def turned(x):
        return x.transpose(0, 1).contiguous().transpose(0, 1)

    with torch.autograd.graph.saved_tensors_hooks(lambda x: x, turned):
        (got,) = torch.autograd.grad(attend(qkv, 0.4), qkv, grad)
    assert torch.equal(got, expected)


def test_a_backbone_computes_at_the_heads_own_width(monkeypatch):
    torch.manual_seed(0)
    model = AsViT('5,2,2,2|3,2,3,1|2,1,2,1|3,1,2,1|16,40', img_size=64)
    images = torch.randn(2, 3, 64, 48)  # padded and masked windows
    widths = []

    def watch(module, inputs, output):
        widths.append(output.shape[-1])

    for stage in model.stages:
        for block in stage.blocks:
            block.attn.qkv.register_forward_hook(watch)
    (out,) = model(images)
    assert widths == [b.attn.qkv.head_dim for stage in model.stages for b in stage.blocks]
    monkeypatch.setattr(attention, 'library', lambda source: None)
    widths.clear()
    (plain,) = model(images)
    assert all(width % 8 == 0 for width in widths)
    torch.testing.assert_close(out, plain, rtol=0, atol=1e-5 * plain.abs().max().item())
    torch.testing.assert_close(out.double(), model.double()(images.double())[0], rtol=0, atol=1e-4)


def test_values_are_those_of_torchs_kernel():
    qkv = heads(2, 196, 3, 24)
    q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
    torch.testing.assert_close(
        attend(qkv, 0.2), F.scaled_dot_product_attention(q, k, v, scale=0.2).transpose(1, 2)
    )
