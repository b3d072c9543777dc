import pytest
import torch
from torch.nn import functional as F

from asvit_mm.ops.resample import resample, resample_by_matrices


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def random_map(device='cpu'):
    x = torch.randn(2, 3, 14, 9, generator=torch.Generator().manual_seed(0)).double()
    return x.to(device).requires_grad_()


@pytest.mark.parametrize('mode', ['bicubic', 'bilinear'])
@pytest.mark.parametrize('size', [(7, 5), (4, 3), (20, 31), (1, 9)])
def test_matrices_agree_with_torch(mode, size):
    x = random_map()
    weights = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    results = []
    for function in (resample_by_matrices, F.interpolate):
        y = function(x, size, mode=mode)
        results.append((y, *torch.autograd.grad((y * weights).sum(), x)))
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-9)


def test_autocast_does_not_lower_the_precision():
    x = random_map().float()
    expected = resample_by_matrices(x, (7, 5), 'bicubic')
    with torch.autocast('cpu', torch.bfloat16):
        torch.testing.assert_close(resample_by_matrices(x, (7, 5), 'bicubic'), expected)


@pytest.mark.cuda
def test_trains_deterministically_on_cuda(deterministic):
    x = random_map('cuda')
    gradients = [torch.autograd.grad(resample(x, (5, 4), 'bicubic').sum(), x) for _ in range(2)]
    torch.testing.assert_close(*gradients, rtol=0, atol=0)
