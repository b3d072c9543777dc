"""How the configs of a run are called."""

from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config

from asvit_mm.arch import PRESETS, as_architecture
from asvit_mm.config_writer.naming import RunConfigs, _short, network_names
from asvit_mm.cost import count_macs, count_params
from asvit_mm.data.source import describe_data

SEED = PRESETS['seed']
DIGITS = describe_data('digits', 32)
IMAGENET = describe_data('noise', 32)


@pytest.mark.parametrize(
    ('arch', 'data', 'progressive', 'first', 'second'),
    [
        (SEED, DIGITS, False, 'asvit-2.1m-5.2mf_b64_digits', 'asvit-2.1m-5.2mf'),
        (SEED, DIGITS, True, 'asvit-2.1m-5.2mf_b64-progressive_digits', 'asvit-2.1m-5.2mf'),
        (PRESETS['small'], IMAGENET, False, 'asvit-29m-5.1gf_8xb128_in1k', 'asvit-29m-5.1gf'),
        (PRESETS['large'], IMAGENET, False, 'asvit-88m-22gf_8xb128_in1k', 'asvit-88m-22gf'),
    ],
)
def test_configs_are_called_by_what_their_network_costs(arch, data, progressive, first, second):
    configs = RunConfigs(data, progressive=progressive, folder='run/configs')
    second = f'mask-rcnn_{second}_fpn_1x_coco'
    assert configs.add(arch) == {
        'config': f'configs/{first}.py',
        'detection_config': f'configs/{second}.py',
    }
    assert list(configs.texts) == [f'{first}.py', f'{second}.py']
    for name, text in configs.texts.items():
        assert f' run/configs/{name}' in text
        assert Config.fromstring(text, '.py').model.backbone.arch == str(arch)
    hooks = Config.fromstring(configs.texts[f'{first}.py'], '.py').get('custom_hooks', [])
    assert bool(hooks) == progressive


def test_names_grow_exact_and_then_are_numbered():
    small = PRESETS['small']
    names = list(islice(network_names(small, IMAGENET), 12))
    assert names[:3] == ['asvit-29m-5.1gf', 'asvit-29.1m-5.13gf', 'asvit-29.05m-5.132gf']
    assert len(set(names)) == 12
    params, macs = names[8].removeprefix('asvit-').removesuffix('gf').split('m-')
    assert round(float(params) * 10**6) == count_params(small, 1000)
    assert round(float(macs) * 10**9) == count_macs(small, 224, 1000)
    assert names[9:11] == [f'{names[8]}-2', f'{names[8]}-3']


@given(st.integers(1, 10**12), st.integers(2, 13))
def test_a_cost_in_a_name_is_rounded_and_no_more(cost, digits):
    text = _short(cost, digits)
    value = float(text.rstrip('kmg')) * {'k': 10**3, 'm': 10**6, 'g': 10**9}.get(text[-1], 1)
    assert abs(value - cost) <= 0.501 * cost * 10 ** (1 - digits)
    assert round(value) == cost or digits < len(str(cost))


def test_a_second_network_of_a_like_cost_gets_more_digits():
    first, second = '6,2,3|4,1,2|4,1,4|4,1,6|32', '6,2,3|4,1,2|4,2,4|4,1,6|32'
    like = [as_architecture(arch) for arch in (first, second, first)]
    assert len({next(network_names(arch, DIGITS)) for arch in like}) == 1
    configs = RunConfigs(DIGITS)
    assert [configs.add(arch)['config'] for arch in like] == [
        'configs/asvit-2.1m-5.0mf_b64_digits.py',
        'configs/asvit-2.06m-4.98mf_b64_digits.py',
        'configs/asvit-2.1m-5.0mf_b64_digits.py',
    ]
    assert [name.split('_')[1] for name in configs.texts if 'mask' in name] == [
        'asvit-2.1m-5.0mf',
        'asvit-2.06m-4.98mf',
    ]
    assert len(configs.texts) == 4


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), min_size=2, max_size=12))
@settings(max_examples=20)
def test_the_names_of_a_series_need_no_number(steps):
    """Each member has a layer more and is no narrower, so its exact parameters are its own."""
    depths, width, taken = [1, 1, 1, 1], 32, []
    for stage, wider in steps:
        depths[stage] += 1
        width += wider
        arch = SEED.with_size(depths, width)
        taken.append(next(n for n in network_names(arch, DIGITS) if n not in taken))
    assert all(name.count('-') == 2 for name in taken)
