"""The operator against softmax attention written out, and what each part of torch sees of it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.analysis import FlopAnalyzer
from torch.autograd import forward_ad
from torch.profiler import profile
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from asvit_mm.ops import attention, native
from asvit_mm.ops.attention import attend, uses_kernel

pytestmark = pytest.mark.skipif(
    native.library(attention.SOURCE) is None,
    reason='no compiler: test_native says what happens then',
)
OPERATOR = torch.ops.asvit_mm.attention


def heads(*shape, seed=0, size=1.0):
    batch, tokens, number, dim = shape
    generator = torch.Generator().manual_seed(seed)
    return (size * torch.randn(batch, tokens, 3, number, dim, generator=generator)).requires_grad_()


def some_mask(batch, tokens, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(batch, 1, 1, tokens, generator=generator) < 0.5
    mask[..., seed % tokens] = True
    return mask


def by_hand(qkv, scale, mask=None):
    q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
    scores = scale * q @ k.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2)


def agree(qkv, scale, mask=None):
    """Outputs and gradients are those of float64 by hand; returns the gradient."""
    out = attend(qkv, scale, mask)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    (grad_qkv,) = torch.autograd.grad(out, qkv, grad)
    twin = qkv.detach().double().requires_grad_()
    expected = by_hand(twin, scale, mask)
    (grad_twin,) = torch.autograd.grad(expected, twin, grad.double())
    for got, want in ((out, expected), (grad_qkv, grad_twin)):
        largest = want.abs().max().item()
        torch.testing.assert_close(got.double(), want, rtol=0, atol=1e-5 * largest + 1e-7)
    return grad_qkv


SHAPES = [
    (2, 1, 1, 1),
    (1, 7, 3, 5),
    (2, 49, 4, 24),
    (1, 64, 2, 22),
    (1, 65, 2, 17),
    (1, 97, 2, 33),
    (1, 196, 3, 64),
    (1, 784, 2, 22),
]


@pytest.mark.parametrize('shape', SHAPES, ids=str)
@pytest.mark.parametrize('masked', [False, True])
def test_values_and_gradients(shape, masked):
    assert uses_kernel(heads(*shape))
    agree(heads(*shape), shape[-1] ** -0.5, some_mask(*shape[:2]) if masked else None)


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 220), st.integers(1, 3), st.integers(1, 70)),
    st.floats(0.01, 0.5),
    st.booleans(),
    st.integers(0, 1000),
)
@settings(max_examples=30)
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


def test_large_scores_are_as_exact_as_torchs():
    qkv = heads(1, 130, 2, 24, size=5.0).detach()
    expected = by_hand(qkv.double(), 1.0)
    torchs = attention.decomposed_attention(qkv, 1.0)
    errors = [(out - expected).abs().max().item() for out in (attend(qkv, 1.0), torchs)]
    assert errors[0] < 5 * errors[1] < 0.01


@pytest.mark.parametrize('seen', [(110, 111), (0, 96), (100, 197), (3, 195), (10, 203), (0, 289)])
def test_masks_that_cut_blocks_of_keys(seen):
    mask = torch.zeros(1, 1, 1, 300, dtype=torch.bool)
    mask[..., slice(*seen)] = True
    grad = agree(heads(1, 300, 2, 8), 0.3, mask)
    assert not grad[:, :, 1:][~mask[:, 0, 0]].any()


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_masked_keys_and_values_leave_no_trace(value):
    qkv, mask = heads(1, 120, 2, 8).detach(), some_mask(1, 120)
    expected = attend(qkv, 0.3, mask)
    hidden = mask[0, 0, 0].logical_not()
    qkv[:, hidden, 1:] = value
    qkv.requires_grad_()
    out = attend(qkv, 0.3, mask)
    assert torch.equal(out, expected)
    (grad,) = torch.autograd.grad(out.sum(), qkv)
    assert grad.isfinite().all()
    assert not grad[:, hidden, 1:].any()


# One NaN carries a payload in the bits that an exponent is made of.
NANS = [math.nan, torch.tensor([0x7FC00001], dtype=torch.int32).view(torch.float32).item()]


@pytest.mark.parametrize('value', NANS)
def test_nan_spreads_as_far_as_it_must(value):
    qkv = heads(1, 100, 1, 8).detach()
    query, key, channel = qkv.clone(), qkv.clone(), qkv.clone()
    query[0, 50, 0] = key[0, 20, 1] = value
    channel[0, 20, 2, :, 3] = value
    out = attend(query, 0.3)
    assert out[0, 50].isnan().all()
    assert out[0, torch.arange(100) != 50].isfinite().all()
    assert attend(key, 0.3).isnan().all()
    assert attend(channel, 0.3)[..., 3].isnan().all()
    assert attend(channel, 0.3)[..., :3].isfinite().all()


def test_infinite_scores_give_nan():
    qkv = heads(1, 100, 1, 8).detach().abs()
    qkv[0, 20, 1, :, 0] = math.inf
    assert attend(qkv, 0.3).isnan().all()
    lowest = torch.ones(1, 4, 3, 1, 1)
    lowest[:, :, 0], lowest[:, :, 1] = 1e30, -1e30
    lowest.requires_grad_()
    out = attend(lowest, 1.0)
    assert out.isnan().all()
    assert torch.autograd.grad(out.sum(), lowest)[0][:, :, 2].isnan().all()


@pytest.mark.parametrize('shape', [(2, 9, 2, 2, 4), (2, 9, 4, 2, 4), (9, 3, 2, 4)])
def test_other_shapes_are_refused(shape):
    with pytest.raises((ValueError, RuntimeError)):
        attend(torch.randn(shape), 0.5)


@pytest.mark.parametrize(('name', 'arrays'), [('attention_forward', 4), ('attention_backward', 6)])
def test_too_little_memory(name, arrays):
    """More than there are addresses; nothing is read or written then."""
    one = torch.zeros(1)
    with pytest.raises(MemoryError, match='no memory to work in'):
        attention._run(name, (one,) * arrays, torch.Size((1, 1 << 45, 3, 1, 1)), 1.0)


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


def test_other_layouts_and_no_images():
    qkv = heads(2, 3, 40, 8).transpose(1, 3)[:, ::2].detach()  # (2, 4, 40, 3, 3), in another order
    qkv = qkv.permute(0, 2, 3, 4, 1).requires_grad_()
    assert not qkv.is_contiguous()
    agree(qkv, 0.5)
    assert attend(heads(0, 9, 2, 4), 0.5).shape == (0, 9, 2, 4)
    with torch.no_grad():
        assert not attend(heads(1, 9, 2, 4), 0.5).requires_grad


@pytest.mark.parametrize('masked', [False, True])
def test_without_the_kernel_the_operator_computes_the_same(masked, monkeypatch):
    """As where a compiled graph is run on a machine without a compiler."""
    qkv, mask = heads(2, 20, 2, 6), some_mask(2, 20) if masked else None
    grad = torch.randn(2, 20, 2, 6)

    def results():
        out, log_sums = OPERATOR(qkv, 0.4, mask)
        return out, log_sums, *torch.autograd.grad(out, qkv, grad)

    expected = results()
    monkeypatch.setattr(attention, 'library', lambda source: None)
    assert not uses_kernel(qkv)
    for got, want in zip(results(), expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('masked', [False, True])
def test_second_derivatives(masked):
    qkv, mask = heads(2, 20, 2, 6), some_mask(2, 20) if masked else None

    def curvature(function, at):
        (slope,) = torch.autograd.grad(function(at, 0.4, mask).tanh().sum(), at, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), at)[0]

    expected = curvature(by_hand, qkv.detach().double().requires_grad_())
    torch.testing.assert_close(curvature(attend, qkv).double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('masked', [False, True])
def test_registered_as_torch_wants_operators(masked):
    """Schema, fake tensors, autograd registration, and ahead-of-time compilation with gradients."""
    mask = some_mask(2, 20) if masked else None
    torch.library.opcheck(OPERATOR, (heads(2, 20, 2, 6), 0.4, mask))


def test_transforms_see_a_decomposition():
    x, direction = heads(2, 20, 2, 6).detach(), torch.randn(2, 20, 3, 2, 6)

    def results(function):
        def loss(x):
            return function(x, 0.4).tanh().sum()

        gradient = torch.func.grad(loss)
        return (
            torch.func.jvp(loss, (x,), (direction,))[1],
            gradient(x),
            torch.func.jvp(gradient, (x,), (direction,))[1],
            torch.func.vmap(torch.func.grad(lambda x: loss(x[None])))(x),
        )

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        for got, want in zip(results(attend), results(by_hand), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_forward_mode():
    x, direction = heads(2, 20, 2, 6).detach(), torch.randn(2, 20, 3, 2, 6)
    math_only = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
    with math_only, forward_ad.dual_level():
        dual = forward_ad.make_dual(x, direction)
        assert uses_kernel(x)
        assert not uses_kernel(dual)
        tangent = forward_ad.unpack_dual(attend(dual, 0.4)).tangent
    want = torch.func.jvp(lambda x: by_hand(x, 0.4), (x,), (direction,))[1]
    torch.testing.assert_close(tangent, want, rtol=1e-4, atol=1e-5)


def test_batched_gradients():
    qkv = heads(2, 20, 2, 6)
    out = attend(qkv, 0.4)
    directions = torch.randn(3, *out.shape)
    (batched,) = torch.autograd.grad(out, qkv, directions, is_grads_batched=True, retain_graph=True)
    for got, direction in zip(batched, directions, strict=True):
        (want,) = torch.autograd.grad(out, qkv, direction, retain_graph=True)
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_other_types_devices_and_autocast_take_torchs_attention():
    qkv = heads(2, 20, 2, 6)
    assert not uses_kernel(qkv.double())
    assert not uses_kernel(qkv.to('meta'))
    assert attend(qkv.to('meta'), 0.4).shape == (2, 20, 2, 6)
    torch.testing.assert_close(attend(qkv.double(), 0.4), by_hand(qkv.double(), 0.4))
    expected = by_hand(qkv, 0.4)
    with torch.autocast('cpu', torch.bfloat16):
        assert not uses_kernel(qkv)
        torch.testing.assert_close(attend(qkv, 0.4).float(), expected, atol=0.03, rtol=0)


@pytest.mark.parametrize(
    'mask', [torch.zeros(2, 1, 20, 20), torch.ones(1, 1, 1, 20, dtype=torch.bool)], ids=str
)
def test_other_masks_are_refused(mask):
    with pytest.raises(ValueError, match='mask of'):
        attend(heads(2, 20, 2, 6), 0.4, mask)


def test_compiled_graphs_keep_the_operator():
    qkv, grad, graphs = heads(2, 20, 2, 6), torch.randn(2, 20, 2, 6), []

    def backend(module, inputs):
        graphs.append([str(node.target) for node in module.graph.nodes])
        return module

    compiled = torch.compile(lambda x: attend(x, 0.4), fullgraph=True, backend=backend)
    compiled(qkv)
    assert any('asvit_mm.attention' in target for target in graphs[0])
    compiled = torch.compile(lambda x: attend(x, 0.4), fullgraph=True, backend='aot_eager')
    out = compiled(qkv)
    expected = attend(qkv, 0.4)
    assert torch.equal(out, expected)
    got, want = (torch.autograd.grad(o, qkv, grad)[0] for o in (out, expected))
    assert torch.equal(got, want)


def test_exports_and_traces_hold_torchs_operators_only():
    qkv = heads(2, 20, 2, 6).detach()

    class Attend(torch.nn.Module):
        def forward(self, x):
            return attend(x, 0.4)

    exported = torch.export.export(Attend(), (qkv,))
    assert 'asvit_mm.attention' not in str(exported.graph)
    traced = torch.jit.trace(Attend(), qkv)
    assert 'asvit_mm::' not in str(traced.graph)
    for run in (exported.module(), traced):
        torch.testing.assert_close(run(qkv), attend(qkv, 0.4), rtol=1e-5, atol=1e-6)


def test_profilers_and_counters_name_it():
    qkv = heads(2, 20, 2, 6)
    with profile() as profiler:
        out = attend(qkv, 0.4)
    assert 'asvit_mm::attention' in {event.key for event in profiler.key_averages()}
    with FlopCounterMode(display=False) as counter:
        attend(qkv, 0.4)
        forward = counter.get_total_flops()
        out.sum().backward()
    product = 2 * 2 * 20 * 20 * 6 * 2  # FLOPs of one product of all heads
    assert forward == 2 * product
    assert counter.get_total_flops() - forward == 5 * product


@pytest.mark.parametrize('reentrant', [False, True])
def test_checkpointed(reentrant):
    qkv, grad = heads(2, 40, 2, 6), torch.randn(2, 40, 2, 6)
    (expected,) = torch.autograd.grad(attend(qkv, 0.4), qkv, grad)
    checkpoint(attend, qkv, 0.4, use_reentrant=reentrant).backward(grad)
    assert torch.equal(qkv.grad, expected)


def test_counters_that_read_traces_have_a_formula():
    class Heads(torch.nn.Module):
        def forward(self, qkv):
            return attend(qkv, 0.4)

    qkv = torch.randn(2, 20, 3, 2, 6)
    counter = FlopAnalyzer(Heads(), qkv)
    assert counter.total() == 0
    counter.set_op_handle('aten::scaled_dot_product_attention', attention.traced_macs)
    assert counter.total() == 2 * (2 * 2) * 20 * 20 * 6


def test_dropout_of_weights_is_torchs():
    qkv = torch.randn(2, 20, 3, 2, 6)
    torch.manual_seed(0)
    dropped = attend(qkv, 0.4, None, 0.5)
    torch.manual_seed(0)
    assert torch.equal(dropped, attention.decomposed_attention(qkv, 0.4, None, 0.5))
    assert not torch.allclose(dropped, attend(qkv, 0.4))
