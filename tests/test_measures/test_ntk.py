import math

import pytest
import torch

from asvit_mm.errors import InputError
from asvit_mm.measures import ntk_condition_number
from asvit_mm.measures.ntk import ntk_gram
from asvit_mm.models import AsViT
from tests.golden import ENTRIES, golden_backbone

TINY = '5,2,2,1|3,2,3,1|2,1,2,1|3,1,2,1|16,16'
LN = dict(type='LN')


def slow_gram(model, images):
    """The published procedure: one backward pass an image over the whole batch's graph."""
    output = model.pooled_tokens(images)
    weights = [p for name, p in model.named_parameters() if 'weight' in name]
    rows = []
    for z in output:
        gradients = torch.autograd.grad(z.sum(), weights, retain_graph=True, allow_unused=True)
        rows.append(torch.cat([g.flatten() for g in gradients if g is not None]))
    rows = torch.stack(rows)
    return rows @ rows.T


def images(count, size, seed=2):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize('entry', ENTRIES, ids=lambda entry: entry['arch'])
def test_golden(entry):
    model = golden_backbone(entry, norm_cfg=LN, reset_norms=True)
    batch = images(8, entry['img_size'])
    gram = ntk_gram(model, batch)
    for value, key in (
        (gram[0], 'ntk_gram_row0'),
        (torch.linalg.eigvalsh(gram), 'ntk_eigenvalues'),
    ):
        expected = torch.tensor(entry[key], dtype=torch.float64)
        torch.testing.assert_close(value, expected, rtol=1e-8, atol=0)
    score = ntk_condition_number(model, batch)
    assert score.value == pytest.approx(entry['ntk_condition_number'], rel=1e-8)


@pytest.mark.parametrize('norm_cfg', [LN, None])
@pytest.mark.parametrize('size', [32, 27])
def test_agrees_with_one_image_at_a_time(norm_cfg, size):
    torch.manual_seed(0)
    model = AsViT(TINY, img_size=size, norm_cfg=norm_cfg).double().eval()
    batch = images(5, size)
    torch.testing.assert_close(
        ntk_gram(model, batch), slow_gram(model, batch), rtol=1e-9, atol=1e-12
    )


def test_coarse_tokens():
    torch.manual_seed(0)
    model = AsViT(TINY, img_size=64, token_stride=8).double().eval()
    batch = images(3, 64)
    torch.testing.assert_close(
        ntk_gram(model, batch), slow_gram(model, batch), rtol=1e-9, atol=1e-12
    )


def test_model_is_left_as_it_was():
    model = AsViT(TINY, img_size=24, drop_path_rate=0.5).train()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    first, second = (ntk_condition_number(model, images(4, 24).float()) for _ in range(2))
    assert first == second
    assert model.training
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_hooks_are_gone_after_a_failure():
    model = AsViT(TINY, img_size=24)
    with pytest.raises(RuntimeError):
        ntk_gram(model, torch.randn(4, 5, 24, 24))
    assert not any(module._forward_hooks for module in model.modules())


def test_bad_networks_are_reported_with_the_reason():
    model = AsViT(TINY, img_size=24)
    same = images(1, 24).float().expand(4, -1, -1, -1)
    score = ntk_condition_number(model, same)
    assert not score.valid
    assert 'identical' in score.reason
    torch.nn.init.constant_(model.stages[2].blocks[0].ffn.fc1.weight, math.nan)
    score = ntk_condition_number(model, images(4, 24).float())
    assert not score.valid
    assert 'NaN' in score.reason


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(InputError, match='at least two'):
        ntk_condition_number(AsViT(TINY, img_size=24), images(1, 24).float())
    model = AsViT(TINY, img_size=24)
    model.patch_embed.proj.__class__ = type('Conv2dScaled', (torch.nn.Conv2d,), {})
    with pytest.raises(InputError, match='no per-image gradient of Conv2dScaled'):
        ntk_gram(model, images(2, 24).float())
