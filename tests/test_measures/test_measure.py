import math
import re
import warnings
from pathlib import Path

import pytest
import torch

from asvit_mm import measures
from asvit_mm.arch import PRESETS, Architecture
from asvit_mm.cost import count_macs, count_params
from asvit_mm.errors import InputError
from asvit_mm.measures import (
    MEASURES,
    SEARCH_MEASURES,
    ProbeNetwork,
    Score,
    find_measures,
    length_distortion,
    measure,
    ntk_condition_number,
)
from asvit_mm.models import AsViT

from . import small

TINY = Architecture.parse(small.TINY)
DOCS = Path(__file__).parents[2] / 'docs' / 'complexity.md'
OF_NETWORKS = [name for name, info in MEASURES.items() if info.needs]


def batches(repeat, count=4, size=24):
    return torch.randn(repeat, count, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.cuda
@pytest.mark.parametrize('name', MEASURES)
def test_cuda_agrees_with_the_cpu(name):
    cpu, cuda = (
        measure(
            *(TINY, batches(1)),
            names=[name],
            img_size=24,
            repeat=1,
            device=device,
            dtype=torch.float64,
        )
        for device in ('cpu', 'cuda')
    )
    assert cuda[name].value == pytest.approx(cpu[name].value, rel=1e-6)


def test_reproducible_and_a_step_draws_fresh_weights():
    images = batches(2)
    first = measure(TINY, images, img_size=24, repeat=2, seed=(7, 1))
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    assert measure(TINY, images, img_size=24, repeat=2, seed=(7, 1)) == first
    assert torch.rand(1) == expected  # the global generator is left alone
    assert measure(TINY, images, img_size=24, repeat=2, seed=(7, 2)) != first
    assert measure(TINY, images, img_size=24, repeat=2, seed=(8, 1)) != first
    assert tuple(first) == SEARCH_MEASURES
    assert first['length_distortion'].valid
    assert first['ntk_condition_number'].value > 1


def test_is_the_mean_of_single_networks():
    images = batches(3)
    got = measure(TINY, images, img_size=24, repeat=3, seed=(4, 9), dtype=torch.float64)
    lengths, conditions = [], []
    for index in range(3):
        probe = ProbeNetwork(TINY, 24, (4, 9), index, dtype=torch.float64)
        lengths.append(length_distortion(probe.norm_free, probe.circle).value)
        conditions.append(ntk_condition_number(probe.network, images[index].double()).value)
    for name, values in (('length_distortion', lengths), ('ntk_condition_number', conditions)):
        assert got[name].value == pytest.approx(sum(values) / 3, rel=1e-12)
        expected = torch.tensor(values, dtype=torch.float64).std().item()
        assert got[name].std == pytest.approx(expected, rel=1e-9)


def test_float32_is_close_to_float64():
    images = batches(1, 8, 32)
    single, double = (
        measure(PRESETS['seed'], images, names=MEASURES, img_size=32, repeat=1, dtype=dtype)
        for dtype in (torch.float32, torch.float64)
    )
    for name, score in single.items():
        assert score.value == pytest.approx(double[name].value, rel=1e-3)


def test_the_order_is_that_of_the_names_and_does_not_matter():
    images = batches(2)
    names = list(MEASURES)
    forwards = measure(TINY, images, names=names, img_size=24, repeat=2)
    backwards = measure(TINY, images, names=names[::-1], img_size=24, repeat=2)
    assert list(forwards) == names
    assert list(backwards) == names[::-1]
    assert forwards == backwards
    alone = measure(TINY, images, names=['dss_indicator'], img_size=24, repeat=2)
    assert alone == {'dss_indicator': forwards['dss_indicator']}
    assert all(score.valid for score in forwards.values())
    assert forwards['params'] == Score(count_params(TINY, abs_pos_embed=False))
    assert forwards['params'].std == 0
    assert forwards['synflow'].std > 0
    assert all(0 <= score.seconds < math.inf for score in forwards.values())
    assert forwards['params'].seconds < forwards['extrinsic_curvature'].seconds


def test_costs_are_those_of_the_images_channels():
    gray = torch.zeros(1, 1, 1, 24, 24)
    found = measure(TINY, gray, names=['params', 'flops'], img_size=24, repeat=1)
    assert found['params'].value == count_params(TINY, abs_pos_embed=False, in_channels=1)
    assert found['flops'].value == count_macs(TINY, 24, in_channels=1)
    assert found['flops'].value < count_macs(TINY, 24)


def test_images_are_not_needed_where_nothing_looks_at_them():
    names = ['params', 'flops', 'synflow', 'length_distortion']
    without = measure(TINY, None, names=names, img_size=24, repeat=2)
    assert without == measure(TINY, batches(2), names=names, img_size=24, repeat=2)


def test_costs_build_no_network():
    huge = Architecture.parse('8,2,3,900|4,1,2,900|4,1,4,900|4,1,6,900|32,1024')
    scores = measure(huge, None, names=['params', 'flops'], img_size=224, repeat=5)
    assert scores['params'].value > 1e10
    assert scores['params'].seconds < 0.1


def test_a_bad_measure_leaves_the_others_alone():
    images = batches(2)
    images[1] = math.nan
    scores = measure(TINY, images, names=MEASURES, img_size=24, repeat=2)
    bad = {name for name, score in scores.items() if not score.valid}
    assert bad == {'ntk_condition_number', 'gradient_norm', 'naswot', 'token_entropy'}
    assert scores['gradient_norm'].reason.startswith('network 2 of 2: ')


def test_identical_images_are_warned_of():
    images = batches(2, 5, 16)
    images[1, 4] = images[1, 2]
    # equal where the comparison samples pixels, and different elsewhere
    images[0, 1] = images[0, 0]
    images[0, 1, 0, 0, 1] += 1
    with pytest.warns(UserWarning, match='images 2 and 4 of the batch of network 2') as caught:
        scores = measure(TINY, images, img_size=16, repeat=2)
    assert len(caught) == 1
    assert '\n' not in str(caught[0].message)
    assert caught[0].filename == __file__
    assert 'network 2 of 2' in scores['ntk_condition_number'].reason
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        measure(TINY, images, names=['gradient_norm'], img_size=16, repeat=2)


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(InputError, match='repeat = 3'):
        measure(TINY, batches(2), img_size=24, repeat=3)
    with pytest.raises(InputError, match='there are none'):
        measure(TINY, None, img_size=24, repeat=2)
    with pytest.raises(InputError, match='at least 1'):
        measure(TINY, batches(0), img_size=24, repeat=0)
    with pytest.raises(InputError, match='24 x 24'):
        measure(TINY, torch.randn(1, 4, 3, 16, 16), img_size=24, repeat=1)
    with pytest.raises(InputError, match='do not fit'):
        measure(TINY, torch.randn(4, 3, 24, 24), img_size=24, repeat=4)


def test_networks_take_as_many_channels_as_the_images_have():
    names = ['length_distortion', 'ntk_condition_number']
    grey = measure(TINY, torch.randn(1, 4, 1, 24, 24), img_size=24, names=names, repeat=1)
    assert all(score.valid for score in grey.values())
    assert probe(batch=torch.randn(4, 1, 24, 24)).network.in_channels == 1


def probe(**changes):
    given = dict(seed=(1, 2), batch=small.images(4)) | changes
    return ProbeNetwork(TINY, 24, **given)


def test_every_measure_is_described():
    for name, info in MEASURES.items():
        assert info.name == name
        assert all((info.title, info.cost, info.source))
        assert info.arrow == ('↓' if name == 'ntk_condition_number' else '↑')
    assert set(SEARCH_MEASURES) <= set(MEASURES)


def test_each_computes_what_its_function_does():
    p = probe()
    inputs = {
        ('norm_free', 'circle'): (p.norm_free, p.circle),
        ('network', 'images'): (p.network, p.batch),
        ('network',): (p.network, 24),
    }
    for name in OF_NETWORKS:
        info = MEASURES[name]
        assert info.compute(p) == getattr(measures, name)(*inputs[info.needs])
    output_norm = sum(parameter.numel() for parameter in p.network.norm3.parameters())
    parameters = sum(parameter.numel() for parameter in p.network.parameters())
    assert MEASURES['params'].compute(p).value == parameters - output_norm
    assert MEASURES['flops'].compute(p).value == count_macs(p.arch, 24)


@pytest.mark.parametrize('name', MEASURES)
def test_a_measure_needs_what_it_says(name):
    p, info = probe(), MEASURES[name]
    info.compute(p)
    created = {'network', 'norm_free', 'circle', 'images'} & set(vars(p))
    # norm_free and circle are created from the network
    assert created == set(info.needs) | ({'network'} if info.needs else set())


@pytest.mark.parametrize('name', OF_NETWORKS)
def test_the_network_is_not_changed(name):
    p, info = probe(), MEASURES[name]
    p.network = AsViT(small.TINY, img_size=24, drop_path_rate=0.5, frozen_stages=1).train()
    p.norm_free = AsViT(small.TINY, img_size=24, drop_path_rate=0.5, norm_cfg=None).train()
    model = getattr(p, info.needs[0])
    model.stages[3].eval()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    trainable = [parameter.requires_grad for parameter in model.parameters()]
    modes = [module.training for module in model.modules()]
    first, second = (info.compute(p) for _ in range(2))
    assert first == second
    assert first.valid
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == trainable
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize('name', OF_NETWORKS)
def test_bad_networks_are_reported_with_the_reason(name):
    p = probe()
    torch.nn.init.constant_(p.network.stages[2].blocks[0].ffn.fc1.weight, math.nan)
    score = MEASURES[name].compute(p)
    assert not score.valid
    assert 'NaN' in score.reason
    assert math.isnan(score.value)


@pytest.mark.parametrize(
    'name', [n for n in OF_NETWORKS if n not in ('synflow', 'dss_indicator', 'auto_prox')]
)
def test_the_memory_limit_reaches_the_measures(name):
    with pytest.raises(InputError, match='too small'):
        MEASURES[name].compute(probe(memory_limit=1000))


def test_unknown_names():
    with pytest.raises(
        InputError, match="unknown measure 'accuracy': choose from length_distortion, "
    ):
        find_measures(['params', 'accuracy'])
    with pytest.raises(InputError, match='no measure is given'):
        find_measures([])


def test_the_documented_table_is_the_registry():
    rows = re.findall(r'^\| `(\w+)` \| (\w+) \|(.*)\|$', DOCS.read_text(), re.MULTILINE)
    assert [name for name, _, _ in rows] == list(MEASURES)
    for name, direction, rest in rows:
        info = MEASURES[name]
        assert direction == ('higher' if info.higher_is_better else 'lower')
        what, cost, source = (cell.strip() for cell in rest.split('|'))
        assert what
        assert cost == info.cost
        assert source == info.source
