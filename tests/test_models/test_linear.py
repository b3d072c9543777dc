import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from asvit_mm.models import AsViT
from asvit_mm.models import linear as module
from asvit_mm.models.linear import Linear, linear, onednn_takes, weight_gradient

WIDTHS = (48, 80)


@pytest.fixture(autouse=True)
def small_products_too(monkeypatch):
    monkeypatch.setattr(module, 'SMALLEST', 1 << 16)


def tensors(*lead, dtype=torch.float32, bias=True, widths=WIDTHS):
    generator = torch.Generator().manual_seed(0)
    size = [(*lead, widths[0]), widths[::-1], widths[1:]]
    made = [torch.randn(s, generator=generator, dtype=dtype).requires_grad_() for s in size]
    return made if bias else made[:2]


@pytest.mark.parametrize('lead', [(8, 100), (2049,), (2, 3, 300)])
@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('few_rows', [0, 1 << 20])
@pytest.mark.parametrize('widths', [WIDTHS, WIDTHS[::-1]])
def test_values_and_gradients_of_the_plain_layer(lead, bias, few_rows, widths, monkeypatch):
    """Whichever library is the faster of the two for the weight's gradient on this machine."""
    monkeypatch.setattr(module, 'FEW_ROWS', few_rows)
    inputs = tensors(*lead, bias=bias, widths=widths)
    assert onednn_takes(*inputs[:2])
    out, expected = linear(*inputs), F.linear(*inputs)
    assert type(out.grad_fn).__name__ == '_OneDNNLinearBackward'
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    for got, want in zip(
        torch.autograd.grad(out, inputs, grad),
        torch.autograd.grad(expected, inputs, grad),
        strict=True,
    ):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('few_rows', [0, 1 << 20])
def test_a_weights_gradient_is_added_in_place(few_rows, monkeypatch):
    """By either library; to what chunks before have given."""
    monkeypatch.setattr(module, 'FEW_ROWS', few_rows)
    generator = torch.Generator().manual_seed(0)
    grad, inputs, to = (
        torch.randn(size, generator=generator) for size in [(64, 48), (64, 80), (48, 80)]
    )
    assert onednn_takes(grad.t(), inputs.t())
    expected = grad.double().t() @ inputs.double()
    found = weight_gradient(grad, inputs)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    before = to.double()
    assert weight_gradient(grad, inputs, to) is to
    torch.testing.assert_close(to.double(), before + expected, rtol=1e-4, atol=1e-4)


def test_rows_that_are_not_contiguous():
    x, weight, bias = tensors(100, 8)
    rows = x.transpose(0, 1)
    torch.testing.assert_close(linear(rows, weight, bias), F.linear(rows, weight, bias))
    (got,) = torch.autograd.grad(linear(rows, weight, bias).sum(), weight)
    (want,) = torch.autograd.grad(F.linear(rows, weight, bias).sum(), weight)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_a_bias_that_is_not_contiguous():
    x, weight, bias = tensors(8, 100)
    with torch.no_grad():
        for odd in (torch.stack([bias, bias + 1], 1)[:, 0], bias[:1].expand(len(bias))):
            torch.testing.assert_close(
                linear(x, weight, odd), F.linear(x, weight, odd), rtol=1e-5, atol=1e-5
            )


def test_batched_gradients():
    inputs = tensors(8, 100)
    out = linear(*inputs)
    directions = torch.randn(3, *out.shape, generator=torch.Generator().manual_seed(2))
    batched = torch.autograd.grad(out, inputs, directions, is_grads_batched=True, retain_graph=True)
    for i, direction in enumerate(directions):
        for got, want in zip(
            batched, torch.autograd.grad(out, inputs, direction, retain_graph=True), strict=True
        ):
            torch.testing.assert_close(got[i], want, rtol=1e-4, atol=1e-4)


def test_only_what_a_gradient_needs_is_kept():
    x, weight, bias = tensors(8, 100)
    out = linear(x, weight.detach(), bias.detach())
    assert [t is None for t in out.grad_fn.saved_tensors] == [True, False]
    out = linear(x.detach(), weight, bias)
    assert [t is None for t in out.grad_fn.saved_tensors] == [False, True]


def test_shapes_that_do_not_fit_are_named():
    x, weight, bias = tensors(8, 100)
    with pytest.raises(RuntimeError, match='shapes'):
        linear(x[..., 1:], weight, bias)


class Wrapped(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        seen.append(func)
        return super().__torch_function__(func, types, args, kwargs or {})


seen = []


def test_tensor_subclasses_see_the_plain_operation():
    x, weight, bias = tensors(8, 100)
    linear(x, weight.detach().as_subclass(Wrapped), bias)
    assert F.linear in seen


def test_second_derivatives():
    def curvature(function):
        x, weight, bias = tensors(8, 100)
        (slope,) = torch.autograd.grad(function(x, weight, bias).tanh().sum(), x, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), [x, weight, bias])

    for got, want in zip(curvature(linear), curvature(F.linear), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-2)


def test_only_gradients_that_are_wanted():
    x, weight, bias = tensors(8, 100)
    linear(x.detach(), weight, bias.detach()).sum().backward()
    assert x.grad is None
    assert bias.grad is None
    assert weight.grad is not None
    with torch.no_grad():
        assert not linear(x, weight, bias).requires_grad


def test_the_plain_operation_where_somebody_looks():
    x, weight, bias = tensors(8, 100)
    assert not onednn_takes(x.double(), weight.double())
    assert not onednn_takes(x[:1, :2], weight)
    with torch.autocast('cpu', torch.bfloat16):
        assert linear(x, weight, bias).dtype == torch.bfloat16
    with torch.backends.mkldnn.flags(enabled=False):
        assert not onednn_takes(x, weight)
    with FlopCounterMode(display=False) as counter:
        linear(x, weight, bias)
    assert counter.get_total_flops() == 2 * 800 * WIDTHS[0] * WIDTHS[1]
    direction = torch.randn(x.shape)
    with forward_ad.dual_level():
        dual = linear(forward_ad.make_dual(x.detach(), direction), weight, bias)
        tangent = forward_ad.unpack_dual(dual).tangent
    torch.testing.assert_close(tangent, direction @ weight.T)
    torch.testing.assert_close(
        torch.func.vmap(linear, (0, None, None))(x, weight, bias), F.linear(x, weight, bias)
    )
    traced = torch.jit.trace(Linear(*WIDTHS), x.detach())
    assert 'aten::linear' in str(traced.inlined_graph)


def test_a_backbone_in_float32_against_its_float64_twin():
    torch.manual_seed(0)
    model = AsViT('5,2,2,2|3,2,3,1|2,1,2,1|3,1,2,1|16,32', img_size=64)
    assert all(isinstance(m, Linear) for m in model.modules() if isinstance(m, nn.Linear))
    images, target = torch.randn(8, 3, 64, 64), torch.randn(8, 256, 2, 2)

    def gradients(dtype):
        model.to(dtype).zero_grad()
        (out,) = model(images.to(dtype))
        (out * target).sum().backward()
        return out.detach(), [p.grad for p in model.parameters()]

    out, grads = gradients(torch.float32)
    twin, expected = gradients(torch.float64)
    torch.testing.assert_close(out.double(), twin, rtol=0, atol=1e-5 * twin.abs().max().item())
    for got, want in zip(grads, expected, strict=True):
        scale = want.abs().max().item()
        torch.testing.assert_close(got.double(), want, rtol=0, atol=1e-4 * scale + 1e-12)
