import pytest
import torch
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from asvit_mm.measures.jvp_attention import CHUNK_BYTES, DualAttention, jvp_attention

SHAPE = (3, 4, 10, 5)  # windows, heads, tokens, width of a head


def primals_and_tangents(dtype=torch.float64):
    """(q, k, v) and (dq, dk, dv)."""
    generator = torch.Generator().manual_seed(0)
    tensors = torch.randn(2, 3, *SHAPE, generator=generator, dtype=dtype)
    return tuple(tensors[0]), tuple(tensors[1])


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
def test_agrees_with_torch_through_explicit_attention(mask, heads_at_a_time, monkeypatch):
    monkeypatch.setitem(CHUNK_BYTES, 'cpu', heads_at_a_time * 10 * 10 * 8)
    primals, tangents = primals_and_tangents()
    expected, derivative = torch.func.jvp(
        lambda q, k, v: slow(q, k, v, mask, 0.3), primals, tangents
    )
    out, tangent = jvp_attention(primals, tangents, mask, 0.3)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(tangent, derivative, rtol=1e-12, atol=1e-13)


def test_large_scores_do_not_overflow():
    (q, k, v), tangents = primals_and_tangents(torch.float32)
    out, tangent = jvp_attention((1e4 * q, k, v), tangents, None, 1.0)
    assert out.isfinite().all()
    assert tangent.isfinite().all()


def test_replaces_scaled_dot_product_attention_only():
    primals, tangents = primals_and_tangents()

    def derivative():
        with torch.no_grad(), forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):
            duals = map(forward_ad.make_dual, primals, tangents)
            out = F.scaled_dot_product_attention(*duals, attn_mask=None, scale=0.4).tanh()
            return forward_ad.unpack_dual(out)

    expected = derivative()
    with DualAttention():
        got = derivative()
    torch.testing.assert_close(got.primal, expected.primal, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(got.tangent, expected.tangent, rtol=1e-12, atol=1e-13)
