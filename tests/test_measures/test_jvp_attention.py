import pytest
import torch
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from asvit_mm.measures.jvp_attention import DualAttention, jvp_attention

SHAPE = (3, 4, 10, 5)  # windows, heads, tokens, width of a head


def tensors(count, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(SHAPE, generator=generator, dtype=dtype) for _ in range(count)]


def padding_mask():
    mask = torch.ones(SHAPE[0], 1, 1, SHAPE[2], dtype=torch.bool)
    mask[1, ..., 7:] = False
    mask[2, ..., 2:] = False
    return mask


def slow(q, k, v, mask, scale):
    scores = scale * q @ k.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, float('-inf'))
    return scores.softmax(-1) @ v


@pytest.mark.parametrize('mask', [None, padding_mask()], ids=['full', 'padded'])
@pytest.mark.parametrize('heads_at_a_time', [1, 5, 12, 100])
def test_value_and_derivative_of_explicit_attention(mask, heads_at_a_time):
    *primal, dq, dk, dv = tensors(6)
    expected, derivative = torch.func.jvp(
        lambda q, k, v: slow(q, k, v, mask, 0.3), tuple(primal), (dq, dk, dv)
    )
    out, tangent = jvp_attention(
        *primal, dq, dk, dv, mask=mask, scale=0.3, chunk_bytes=heads_at_a_time * 10 * 10 * 8
    )
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(tangent, derivative, rtol=1e-12, atol=1e-13)


def test_large_scores_do_not_overflow():
    q, k, v, dq, dk, dv = tensors(6, torch.float32)
    out, tangent = jvp_attention(1e4 * q, k, v, dq, dk, dv, mask=None, scale=1.0)
    assert out.isfinite().all()
    assert tangent.isfinite().all()


def test_takes_the_place_of_torchs_attention_and_of_nothing_else():
    q, k, v, dq, dk, dv = tensors(6)

    def derivative():
        with torch.no_grad(), forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):
            duals = map(forward_ad.make_dual, (q, k, v), (dq, dk, dv))
            out = F.scaled_dot_product_attention(*duals, attn_mask=None, scale=0.4).tanh()
            return forward_ad.unpack_dual(out)

    expected = derivative()
    with DualAttention():
        got = derivative()
    torch.testing.assert_close(got.primal, expected.primal, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(got.tangent, expected.tangent, rtol=1e-12, atol=1e-13)
