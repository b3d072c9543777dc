import math
import re
from pathlib import Path

import pytest
import torch

from asvit_mm.arch import Architecture
from asvit_mm.cost import count_macs, count_params
from asvit_mm.errors import InputError
from asvit_mm.measures import (
    MEASURES,
    SEARCH_MEASURES,
    ProbeNetwork,
    dss_indicator,
    extrinsic_curvature,
    find_measures,
    gauss_map_length,
    gradient_norm,
    length_distortion,
    ntk_condition_number,
    synflow,
)
from asvit_mm.models import AsViT

from .small import TINY, images

DOCS = Path(__file__).parents[2] / 'docs' / 'complexity.md'
OF_NETWORKS = [name for name, info in MEASURES.items() if info.needs]


def probe(**changes):
    given = dict(seed=(1, 2), batch=images(4)) | changes
    return ProbeNetwork(Architecture.parse(TINY), 24, **given)


def test_every_measure_is_described():
    for name, info in MEASURES.items():
        assert info.name == name
        assert all((info.title, info.cost, info.source))
        assert info.arrow == ('↓' if name == 'ntk_condition_number' else '↑')
    assert set(SEARCH_MEASURES) <= set(MEASURES)


def test_each_computes_what_its_function_does():
    p = probe()
    expected = {
        'length_distortion': length_distortion(p.norm_free, p.circle).value,
        'extrinsic_curvature': extrinsic_curvature(p.norm_free, p.circle).value,
        'gauss_map_length': gauss_map_length(p.norm_free, p.circle).value,
        'ntk_condition_number': ntk_condition_number(p.network, p.batch).value,
        'params': count_params(p.arch, abs_pos_embed=False),
        'flops': count_macs(p.arch, 24),
        'gradient_norm': gradient_norm(p.network, p.batch).value,
        'synflow': synflow(p.network, 24).value,
        'dss_indicator': dss_indicator(p.network, 24).value,
    }
    assert {name: info.compute(p).value for name, info in MEASURES.items()} == expected
    parameters = sum(parameter.numel() for parameter in p.network.parameters())
    output_norm = sum(parameter.numel() for parameter in p.network.norm3.parameters())
    assert expected['params'] == parameters - output_norm


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
    p.network = AsViT(TINY, img_size=24, drop_path_rate=0.5, frozen_stages=1).train()
    p.norm_free = AsViT(TINY, img_size=24, drop_path_rate=0.5, norm_cfg=None).train()
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
    'name', [name for name in OF_NETWORKS if name not in ('synflow', 'dss_indicator')]
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
