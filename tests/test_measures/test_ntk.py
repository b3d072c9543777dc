import pytest
import torch

from asvit_mm.errors import InputError
from asvit_mm.measures import ntk_condition_number
from asvit_mm.measures.ntk import ntk_gram
from asvit_mm.models import AsViT
from tests.golden import ENTRIES, golden_backbone

from .small import LN, TINY, images, network


def slow_gram(model, batch):
    """The published procedure: one backward pass per image through the graph of the whole batch."""
    output = model.pooled_tokens(batch)
    weights = [p for name, p in model.named_parameters() if 'weight' in name]
    rows = []
    for z in output:
        gradients = torch.autograd.grad(z.sum(), weights, retain_graph=True, allow_unused=True)
        rows.append(torch.cat([g.flatten() for g in gradients if g is not None]))
    rows = torch.stack(rows)
    return rows @ rows.T


def assert_same_gram(model, batch):
    model, batch = model.double().eval(), batch.double()
    got, expected = ntk_gram(model, batch), slow_gram(model, batch)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('entry', ENTRIES, ids=lambda entry: entry['arch'])
def test_golden(entry):
    model = golden_backbone(entry, norm_cfg=LN, reset_norms=True)
    batch = images(8, entry['img_size']).double()
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
    assert_same_gram(network(size=size, norm_cfg=norm_cfg), images(5, size))


def test_coarse_tokens():
    assert_same_gram(AsViT(TINY, img_size=64, token_stride=8), images(3, 64))


def test_hooks_are_removed_after_a_failure():
    model = network()
    with pytest.raises(RuntimeError):
        ntk_gram(model, torch.randn(4, 5, 24, 24))
    assert not any(module._forward_hooks for module in model.modules())


def test_identical_images_are_bad():
    score = ntk_condition_number(network(), images(1).expand(4, -1, -1, -1))
    assert not score.valid
    assert 'identical' in score.reason


def test_what_has_no_condition_number():
    with pytest.raises(InputError, match='at least two'):
        ntk_condition_number(network(), images(1))
    model = network()
    model.patch_embed.norm = torch.nn.RMSNorm(16)
    with pytest.raises(InputError, match='gradients of RMSNorm are not implemented'):
        ntk_gram(model, images(2))
