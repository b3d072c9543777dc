import copy

import pytest
import torch
from torch import nn

from asvit_mm.analysis.plain_training import Images, Normalize, PlainRecipe, train_side_by_side
from asvit_mm.models.classifier import build_classifier, classifier_config

TINY = classifier_config('4,2,2,1|2,1,2,1|2,1,2,1|2,1,2,1|16,16/2', 2, img_size=16)


def bars(count, seed=0):
    """Images of 16 x 16 pixels with a bright bar, horizontal or vertical, anywhere."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 60, (count, 16, 16, 3), generator=generator, dtype=torch.uint8)
    for i in range(count):
        place = int(torch.randint(6, 10, (), generator=generator))
        (pixels[i] if i % 2 else pixels[i].transpose(0, 1))[place] = 255
    return Images(pixels, torch.arange(count) % 2)


def networks(*seeds):
    return [build_classifier(TINY, seed) for seed in seeds]


@pytest.mark.parametrize('strong', [False, True])
def test_learns_and_networks_beside_each_other_do_not_matter(strong):
    recipe = PlainRecipe(epochs=8, batch=32, lr=2e-3, padding=2, strong=strong)
    train, test = bars(256), bars(100, seed=1)
    alone = train_side_by_side(networks(0), [3], recipe, train, test)[0]
    beside = train_side_by_side(networks(1, 0), [4, 3], recipe, train, test)[1]
    assert alone.top1 == beside.top1 > 90
    assert torch.equal(alone.losses, beside.losses)
    assert len(alone.losses) == 8 * 8
    assert alone.losses[-8:].mean() < alone.losses[:8].mean()


def test_the_first_step_is_torchs_own():
    """A step without augmentation is AdamW on the clipped gradient of the smoothed loss."""
    recipe = PlainRecipe(epochs=1, batch=64, padding=0, warmup=1.0)
    train = bars(64)
    train.pixels = torch.maximum(train.pixels, train.pixels.flip(2))  # flips change nothing
    (model,) = networks(0)
    other = copy.deepcopy(model)
    (trained,) = train_side_by_side([model], [0], recipe, train, bars(10))
    scores = other(Normalize(train.pixels)(train.pixels))
    loss = nn.functional.cross_entropy(scores, train.labels, label_smoothing=0.1)
    torch.testing.assert_close(trained.losses[0], loss.detach(), rtol=1e-4, atol=1e-5)
    loss.backward()
    nn.utils.clip_grad_norm_(other.parameters(), 1.0)
    flat = {
        name for name, p in other.named_parameters() if p.ndim <= 1 or name.endswith('pos_embed')
    }
    groups = [
        dict(params=[p for n, p in other.named_parameters() if (n in flat) == bare],
             weight_decay=0.0 if bare else 0.05)
        for bare in (False, True)
    ]  # fmt: skip
    torch.optim.AdamW(groups, lr=1e-3).step()
    for (name, found), expected in zip(
        trained.model.named_parameters(), other.parameters(), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-4, msg=name)


def test_learning_rates():
    rates = PlainRecipe(epochs=1, lr=1.0, warmup=0.1).learning_rates(100)
    torch.testing.assert_close(rates[:10], torch.arange(1, 11) / 10)
    assert rates[10] == 1
    assert (rates[10:].diff() < 0).all()
    assert rates[-1] == pytest.approx(0.01, abs=1e-3)
