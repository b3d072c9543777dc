import math
import os
import shlex
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.profiler import profile

from asvit_mm.models import gelu as module
from asvit_mm.models.gelu import gelu, gelu_backward_
from asvit_mm.ops import native

# Not where it fails to compile: that is an error.
EXPECTED = (
    torch.backends.cpu.get_cpu_capability() != 'DEFAULT'
    and os.environ.get(native.SWITCH, '1') != '0'
    and shutil.which(shlex.split(os.environ.get('CXX') or 'c++')[0]) is not None
)
KERNEL = pytest.mark.skipif(not EXPECTED, reason='no compiler, no wide registers or switched off')


@pytest.fixture(
    params=[pytest.param(True, marks=KERNEL, id='own'), pytest.param(False, id='torch')]
)
def either(request, monkeypatch):
    monkeypatch.setattr(module, 'has_kernel', lambda: request.param)


def explicit(x):
    """GELU and its derivative in float64, from the error function."""
    x = x.double()
    probability = (1 + torch.erf(x / math.sqrt(2))) / 2
    density = torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi)
    return x * probability, probability + x * density


def agree(x, grad):
    value, derivative = explicit(x)
    # An error of the probability is worth as much of what it is multiplied by.
    allowed = 4e-7 * x.double().abs() + 1e-12
    assert ((gelu(x) - value).abs() <= allowed).all()
    of_x = grad.clone()
    assert ((gelu_backward_(x, of_x) - value).abs() <= allowed).all()
    assert ((of_x - grad * derivative).abs() <= 5e-7 * grad.double().abs() + 1e-12).all()


@KERNEL
def test_the_kernel_is_at_hand():
    assert module.has_kernel()


def test_values_and_derivatives(either):
    x = torch.linspace(-12, 12, 200_001)
    agree(x, torch.ones_like(x))


@given(st.integers(0, 70), st.floats(1e-3, 100), st.integers(0, 1000))
def test_any_number_of_numbers(count, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    x, grad = torch.randn(2, count, generator=generator)
    agree(scale * x, grad)


@KERNEL
def test_narrower_registers(monkeypatch, tmp_path):
    if torch.backends.cpu.get_cpu_capability() != 'AVX512':
        pytest.skip('this CPU has none that are wider')
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: 'AVX2')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    native.library.cache_clear()
    try:
        agree(torch.linspace(-12, 12, 2_001), torch.ones(2_001))
    finally:
        native.library.cache_clear()
    assert len(list(tmp_path.rglob('gelu-*.so'))) == 1


def test_far_from_zero(either):
    x = torch.tensor([-3e38, -1e30, -100.0, -6.0, 0.0, 6.0, 100.0, 1e30, 3e38])
    grad = torch.ones_like(x)
    torch.testing.assert_close(gelu(x), x.clamp_min(0), rtol=1e-6, atol=1e-7)
    gelu_backward_(x, grad)
    torch.testing.assert_close(
        grad, torch.tensor([0, 0, 0, 0, 0.5, 1, 1, 1, 1]), rtol=1e-6, atol=1e-7
    )


@KERNEL
def test_infinite_numbers():
    x, grad = torch.tensor([-torch.inf, torch.inf]), torch.ones(2)
    assert gelu(x)[1] == torch.inf
    gelu_backward_(x, grad)
    torch.testing.assert_close(grad, torch.tensor([0.0, 1.0]), rtol=1e-6, atol=1e-30)


@KERNEL
def test_a_probability_is_from_0_to_1():
    x = torch.linspace(-8, 8, 1_000_001)
    for out in (gelu(x), gelu_backward_(x, torch.ones_like(x))):
        assert (out[x < 0] <= 0).all()
        assert (out[x >= 0] >= 0).all()
        assert (out.abs() <= x.abs()).all()


def test_what_is_no_number_stays_none(either):
    x, grad = torch.tensor([0.5, torch.nan, 0.5]), torch.ones(3)
    assert gelu(x).isnan().tolist() == [False, True, False]
    assert gelu_backward_(x, grad).isnan().tolist() == [False, True, False]
    assert grad.isnan().tolist() == [False, True, False]


@KERNEL
def test_a_profile_names_the_kernel():
    with profile() as profiler:
        gelu(torch.ones(3)), gelu_backward_(torch.ones(3), torch.ones(3))
    names = {event.key for event in profiler.key_averages()}
    assert {'asvit_mm::gelu', 'asvit_mm::gelu_backward'} <= names


@KERNEL
def test_results_do_not_depend_on_the_threads():
    x, results, before = torch.randn(1003), [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            grad = torch.ones_like(x)
            results.append((gelu(x), gelu_backward_(x, grad), grad))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
