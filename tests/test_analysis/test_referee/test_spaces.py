"""AutoFormer and PiT against timm's networks with the same weights, and relative positions against loops."""

import re

import pytest
import timm
import torch

from asvit_mm.analysis.referee.spaces import Attention, AutoFormer, PiT, RelativePositions
from asvit_mm.measures import AnyModel


def copy_weights(source, target):
    own, other = list(target.parameters()), list(source.parameters())
    assert [tuple(p.shape) for p in own] == [tuple(p.shape) for p in other]
    with torch.no_grad():
        for mine, theirs in zip(own, other, strict=True):
            mine.copy_(theirs)


PAIRS = {
    'autoformer': lambda: (
        timm.models.VisionTransformer(
            64, depth=2, embed_dim=48, num_heads=3, global_pool='avg', fc_norm=False
        ),
        AutoFormer(48, [3, 3], [4, 4], head_dim=None, relative=False, eps=1e-6, img_size=64),
    ),
    'pit': lambda: (
        timm.create_model('pit_ti_224', img_size=64),
        PiT(32, [2, 6, 4], [2, 4, 8], 4, img_size=64),
    ),
}


@pytest.mark.parametrize('name', PAIRS)
def test_gives_what_timm_gives(name):
    torch.manual_seed(0)
    theirs, ours = PAIRS[name]()
    theirs, ours = theirs.double().eval(), ours.double().eval()
    copy_weights(theirs, ours)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-9, atol=1e-12)
    assert AnyModel(ours, 64).last_tokens(x).shape[2] == ours.num_features


def test_relative_positions():
    positions = RelativePositions(4).double()
    got = positions(1 + 25)
    for i in range(26):
        for j in range(26):
            rows = columns = 0
            if i and j:
                rows = 15 + (j - 1) // 5 - (i - 1) // 5
                columns = 15 + (j - 1) % 5 - (i - 1) % 5
            expected = positions.vertical[rows] + positions.horizontal[columns]
            torch.testing.assert_close(got[i, j], expected)
    far = RelativePositions(4)(1 + 17 * 17)
    assert torch.equal(far[1, 17], far[1, 15])  # 16 and 14 columns away


def test_attention_with_relative_positions():
    torch.manual_seed(0)
    layer = Attention(12, 2, 5, relative=True).double()
    x = torch.randn(1, 10, 12, dtype=torch.float64)
    q, k, v = layer.qkv(x)[0].reshape(10, 3, 2, 5).unbind(1)
    of_keys, of_values = layer.of_keys(10), layer.of_values(10)
    rows = []
    for i in range(10):
        heads = []
        for h in range(2):
            scores = torch.stack([q[i, h] @ (k[j, h] + of_keys[i, j]) for j in range(10)]) / 5**0.5
            heads.append(
                sum(p * (v[j, h] + of_values[i, j]) for j, p in enumerate(scores.softmax(0)))
            )
        rows.append(torch.cat(heads))
    torch.testing.assert_close(layer(x)[0], layer.proj(torch.stack(rows)))


@pytest.mark.parametrize(
    ('width', 'heads', 'halves', 'millions'),
    [  # AutoFormer-T, -S and -B as its authors found them; halves: twice the ratio
        (192, '3333333333433', '7767668878787', 5.8),
        (384, '6657555667767', '6767888888878', 22.9),
        (576, '999991099109109910', '77878776886867', 53.7),
    ],
)
def test_published_parameters(width, heads, halves, millions):
    heads = [int(h) for h in re.findall('10|.', heads)]
    with torch.device('meta'):
        network = AutoFormer(width, heads, [int(half) / 2 for half in halves])
    params = sum(p.numel() for p in network.parameters())
    assert params / 1e6 == pytest.approx(millions, abs=0.2)
