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
    Subject,
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

TINY = Architecture.parse('5,2,2,1|3,2,3,1|2,1,2,1|3,1,2,1|16,16')
DOCS = Path(__file__).parents[2] / 'docs' / 'complexity.md'
LOWER = {'ntk_condition_number'}


def subject(**changes):
    batch = torch.randn(4, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    given = dict(weights_seed=(1, 2), curve_seed=(3,), batch=batch) | changes
    return Subject(TINY, 24, **given)


def test_every_measure_is_described():
    assert list(MEASURES) == [
        'length_distortion',
        'extrinsic_curvature',
        'gauss_map_length',
        'ntk_condition_number',
        'params',
        'flops',
        'gradient_norm',
        'synflow',
        'dss_indicator',
    ]
    for name, info in MEASURES.items():
        assert info.name == name
        assert info.title
        assert info.cost
        assert info.source
        assert info.arrow == ('↓' if name in LOWER else '↑')
    assert set(SEARCH_MEASURES) <= set(MEASURES)


def test_each_computes_what_its_function_does():
    s = subject()
    expected = {
        'length_distortion': length_distortion(s.plain, s.basis, 24).value,
        'extrinsic_curvature': extrinsic_curvature(s.plain, s.basis, 24).value,
        'gauss_map_length': gauss_map_length(s.plain, s.basis, 24).value,
        'ntk_condition_number': ntk_condition_number(s.network, s.batch).value,
        'params': count_params(TINY, abs_pos_embed=False),
        'flops': count_macs(TINY, 24),
        'gradient_norm': gradient_norm(s.network, s.batch).value,
        'synflow': synflow(s.network, 24).value,
        'dss_indicator': dss_indicator(s.network, 24).value,
    }
    assert {name: info.compute(s).value for name, info in MEASURES.items()} == expected


def test_parameters_are_those_of_the_network_that_is_measured():
    s = subject()
    unused = sum(p.numel() for p in s.network.norm3.parameters())
    assert MEASURES['params'].compute(s).value + unused == sum(
        p.numel() for p in s.network.parameters()
    )


@pytest.mark.parametrize('name', MEASURES)
def test_a_measure_needs_what_it_says(name):
    s = subject()
    info = MEASURES[name]
    made = {'network', 'plain', 'basis', 'images'}
    info.compute(s)
    # plain and basis are made from the network
    allowed = set(info.needs) | ({'network'} if info.needs else set())
    assert made & set(vars(s)) == allowed


@pytest.mark.parametrize(
    'name',
    [
        'length_distortion',
        'extrinsic_curvature',
        'gauss_map_length',
        'ntk_condition_number',
        'gradient_norm',
    ],
)
def test_memory_limit_reaches_the_measures(name):
    with pytest.raises(InputError, match='too little memory'):
        MEASURES[name].compute(subject(memory_limit=1000))


def test_no_measure_changes_the_network():
    s = subject()
    state = {k: v.clone() for k, v in s.network.state_dict().items()}
    for info in MEASURES.values():
        info.compute(s)
    assert all(torch.equal(v, state[k]) for k, v in s.network.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in s.network.parameters())


def test_the_plain_network_shares_the_weights():
    s = subject()
    assert isinstance(s.plain, AsViT)
    theirs = dict(s.network.named_parameters())
    ours = dict(s.plain.named_parameters())
    assert set(theirs) - set(ours) == {name for name in theirs if 'norm' in name}
    assert all(value.data_ptr() == theirs[name].data_ptr() for name, value in ours.items())


def test_missing_images_and_unknown_names():
    with pytest.raises(InputError, match='there are none'):
        MEASURES['gradient_norm'].compute(subject(batch=None))
    with pytest.raises(
        InputError, match="'accuracy' is no measure: choose from length_distortion, "
    ):
        find_measures(['params', 'accuracy'])
    with pytest.raises(InputError, match='no measure to compute'):
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
