import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmpretrain.registry import MODELS
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from asvit_mm.arch import PRESETS, Architecture
from asvit_mm.cost import count_macs, count_params, schedule_share, stage_macs, token_grids
from asvit_mm.models import AsViT
from asvit_mm.tokens import MERGE_ROUNDINGS
from tests.golden import ENTRIES
from tests.test_arch import architectures


def built(model):
    return sum(parameter.numel() for parameter in model.parameters())


@settings(max_examples=25)
@given(
    architectures(max_depth=2, max_width=160),
    st.integers(1, 4),
    st.tuples(st.integers(4, 260), st.integers(4, 260)),
    st.booleans(),
    st.sets(st.integers(0, 3), min_size=1),
)
def test_parameters_equal_the_built_models(arch, in_channels, img_size, pos, out):
    with torch.device('meta'):
        model = AsViT(
            arch,
            img_size=img_size,
            in_channels=in_channels,
            use_abs_pos_embed=pos,
            out_indices=sorted(out),
        )
    assert built(model) == count_params(
        arch, in_channels=in_channels, img_size=img_size, abs_pos_embed=pos, out_norms=sorted(out)
    )


@settings(max_examples=15)
@given(
    architectures(max_depth=1, max_width=64),
    st.tuples(st.integers(16, 150), st.integers(16, 150)),
    st.sampled_from([None, 4, 8, 12, 16]),
    st.one_of(st.none(), st.tuples(*[st.integers(2, 16)] * 4)),
    st.sampled_from(MERGE_ROUNDINGS),
)
def test_multiply_adds_equal_torchs_counter(arch, img_size, stride, window_size, rounding):
    """torch counts two FLOPs a multiply-add, and sees attention in its explicit form only."""
    with torch.device('meta'):
        model = AsViT(
            arch,
            token_stride=stride,
            window_size=window_size,
            merge_rounding=rounding,
            use_abs_pos_embed=False,
        )
        image = torch.empty(1, 3, *img_size)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(image)
    counted = count_macs(
        arch, img_size, token_stride=stride, window_size=window_size, merge_rounding=rounding
    )
    assert 2 * counted == pytest.approx(counter.get_total_flops(), rel=0.005)


@pytest.mark.parametrize(
    ('preset', 'params', 'gmacs'),
    [('small', 29.05, 5.13), ('base', 52.62, 8.75), ('large', 88.15, 22.36)],
)
def test_published_family(preset, params, gmacs):
    arch = PRESETS[preset]
    assert count_params(arch, 1000) / 1e6 == pytest.approx(params, abs=0.006)
    assert count_macs(arch, 224, 1000) / 1e9 == pytest.approx(gmacs, abs=0.006)
    width = arch.widths[-1]
    head = dict(type='VisionTransformerClsHead', num_classes=1000)
    with torch.device('meta'):
        backbone = AsViT(preset)
        head = MODELS.build(head | dict(in_channels=width, hidden_dim=width))
    assert built(backbone) + built(head) == count_params(arch, 1000)


@pytest.mark.parametrize('entry', ENTRIES, ids=lambda entry: entry['arch'])
def test_golden_parameter_counts(entry):
    arch = Architecture.parse(entry['arch'])
    assert count_params(arch, abs_pos_embed=False) == entry['params_backbone']
    assert count_params(arch, entry['num_classes'], abs_pos_embed=False) == entry['params']


def test_stages_sum_up():
    arch = PRESETS['base']
    assert sum(s.total for s in stage_macs(arch)) == count_macs(arch)
    assert token_grids(224, 16) == ((14, 14), (7, 7), (4, 4), (2, 2))


def test_share_of_a_schedule_is_the_sum_over_its_epochs():
    arch = PRESETS['small']
    strides = [16] * 80 + [8] * 60 + [4] * 160
    slow = sum(count_macs(arch, 224, 1000, token_stride=stride) for stride in strides)
    share = schedule_share(arch, [(80, 16), (140, 8), (300, 4)], 224, 1000)
    assert share == pytest.approx(slow / (300 * count_macs(arch, 224, 1000)), rel=1e-12)
    assert schedule_share(arch, [(7, 4)]) == 1
