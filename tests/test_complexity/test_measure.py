import pytest
import torch

from asvit_mm.arch import PRESETS, Architecture
from asvit_mm.complexity import Score, curve_basis, length_distortion, measure, ntk_condition_number
from asvit_mm.complexity.measure import fresh_network
from asvit_mm.errors import InputError
from asvit_mm.models import AsViT

TINY = Architecture.parse('5,2,2,1|3,2,3,1|2,1,2,1|3,1,2,1|16,16')


def batches(repeat, count=4, size=24):
    return torch.randn(repeat, count, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_reproducible_and_a_step_draws_fresh_weights():
    images = batches(2)
    first = measure(TINY, images, img_size=24, repeat=2, seed=(7, 1))
    torch.manual_seed(123)
    assert measure(TINY, images, img_size=24, repeat=2, seed=(7, 1)) == first
    assert measure(TINY, images, img_size=24, repeat=2, seed=(7, 2)) != first
    assert measure(TINY, images, img_size=24, repeat=2, seed=(8, 1)) != first
    assert first.length_distortion.valid
    assert first.ntk_condition_number.value > 1


def test_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    measure(TINY, batches(1), img_size=24, repeat=1)
    assert torch.rand(1) == expected


def test_is_the_mean_of_single_networks(monkeypatch):
    images = batches(3)
    got = measure(TINY, images, img_size=24, repeat=3, seed=(4, 9), dtype=torch.float64)
    lengths, conditions = [], []
    from asvit_mm.complexity.measure import _CURVE, _WEIGHTS, _derive

    for r in range(3):
        network = fresh_network(TINY, (_WEIGHTS, 4, 9, r)).double()
        plain = AsViT(TINY, use_abs_pos_embed=False, norm_cfg=None).double()
        own = plain.state_dict()
        plain.load_state_dict({k: v for k, v in network.state_dict().items() if k in own})
        basis = curve_basis(24, torch.Generator().manual_seed(_derive((_CURVE, 4, r))))
        lengths.append(length_distortion(plain, basis, 24).value)
        conditions.append(ntk_condition_number(network, images[r].double()).value)
    assert got.length_distortion.value == pytest.approx(sum(lengths) / 3, rel=1e-12)
    assert got.ntk_condition_number.value == pytest.approx(sum(conditions) / 3, rel=1e-12)


def test_float32_is_close_to_float64():
    images = batches(1, 8, 32)
    single, double = (
        measure(PRESETS['seed'], images, img_size=32, repeat=1, dtype=dtype)
        for dtype in (torch.float32, torch.float64)
    )
    for name in ('length_distortion', 'ntk_condition_number'):
        assert getattr(single, name).value == pytest.approx(getattr(double, name).value, rel=1e-4)


def test_mean_of_scores():
    assert Score.mean([Score(1.0), Score(3.0)]) == Score(2.0)
    bad = Score.mean([Score(1.0), Score.bad('why')])
    assert not bad.valid
    assert bad.reason == 'network 2 of 2: why'


def test_images_must_fit_the_repeats():
    with pytest.raises(InputError, match='repeat = 3'):
        measure(TINY, batches(2), img_size=24, repeat=3)
