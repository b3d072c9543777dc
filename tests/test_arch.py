import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asvit_mm.arch import (
    HEAD_CHOICES,
    KERNEL_CHOICES,
    PRESETS,
    SEARCH_SPACE,
    STRIDE_CHOICES,
    Architecture,
    ArchitectureError,
    as_architecture,
)

PUBLISHED = '8,2,3,3|4,1,2,1|4,1,4,4|4,1,6,2|32,88'
SEED = '8,2,3|4,1,2|4,1,4|4,1,6|32'


@st.composite
def architectures(draw, max_depth=6, max_width=1024):
    """Any valid architecture; seeds in either form."""
    indices = [draw(st.integers(0, len(v) - 1)) for v in SEARCH_SPACE.choices.values()]
    seed = SEARCH_SPACE.decode(indices)
    seed = dataclasses.replace(seed, stride=draw(st.sampled_from(STRIDE_CHOICES)))
    if draw(st.booleans()):
        return seed
    depths = draw(st.tuples(*[st.integers(1, max_depth)] * 4))
    return seed.with_size(depths, draw(st.integers(8, max_width)))


@given(architectures())
def test_text_and_value_are_inverses(arch):
    text = str(arch)
    parsed = Architecture.parse(text)
    assert parsed == arch
    assert str(parsed) == text
    assert as_architecture(arch.to_dict()) == arch


def test_seed_equals_its_scaled_form():
    scaled = Architecture.parse('8,2,3,1|4,1,2,1|4,1,4,1|4,1,6,1|32,32')
    assert scaled == Architecture.parse(SEED) == PRESETS['seed']
    assert hash(scaled) == hash(PRESETS['seed'])
    assert str(scaled) != str(PRESETS['seed'])
    assert str(PRESETS['small'].seed) == SEED


def test_derived_figures_of_the_published_small():
    small = PRESETS['small']
    assert str(small) == PUBLISHED
    assert small.widths == (88, 176, 352, 704)
    assert small.stage_heads == (4, 8, 16, 32)
    assert small.head_dims == (22, 22, 22, 22)
    assert PRESETS['large'].widths == (180, 360, 720, 1024)
    assert PRESETS['large'].head_dims == (45, 45, 45, 32)


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('8,2,3|4,1,2|4,1,4|32', '4 groups'),
        ('9,2,3|4,1,2|4,1,4|4,1,6|32', 'K1 (kernel) = 9 is not allowed: choose from 4, 5, 6, 7, 8'),
        ('8,1,3|4,1,2|4,1,4|4,1,6|32', 'S1 (split) = 1 is not allowed: choose from 2, 4, 8'),
        ('8,2,3|4,1,2|4,1,7|4,1,6|32', 'E3 (expansion) = 7 is not allowed'),
        ('8,2,3|4,1,2|4,1,4|4,1,6|48', 'H (heads) = 48 is not allowed: choose from 16, 32, 64'),
        ('8,2|4,1,2|4,1,4|4,1,6|32', "group 1 = '8,2' has 2 values, expected K1,S1,E1"),
        ('8,2,3,3|4,1,2,1|4,1,4|4,1,6,2|32,88', "group 3 = '4,1,4' has 3 values"),
        ('8,2,3|4,1,2|4,1,4|4,1,6|32,88,1', "group 5 = '32,88,1' has 3 values"),
        ('8,2,x|4,1,2|4,1,4|4,1,6|32', "E1 = 'x' is not an integer"),
        ('8,2, 3|4,1,2|4,1,4|4,1,6|32', "E1 = ' 3' is not an integer"),
        ('8,2,3,0|4,1,2,1|4,1,4,4|4,1,6,2|32,88', 'L1 (depth) = 0 is not allowed'),
        ('8,2,3,3|4,1,2,1|4,1,4,4|4,1,6,2|32,1025', 'C (width) = 1025 is not allowed'),
        ('8,2,3,3|4,1,2,1|4,1,4,4|4,1,6,2|64,7', 'choose C >= 8'),
        ('8,2,3,3|4,1,2,1|4,1,4,4|4,1,6,2|32,' + '9' * 5000, 'C = '),
    ],
)
def test_malformed_strings_name_field_value_and_choices(text, said):
    with pytest.raises(ArchitectureError) as error:
        Architecture.parse(text)
    assert said in str(error.value)
    assert '\n' not in str(error.value)


@given(st.text(alphabet='0123456789,|x- ', max_size=60))
def test_any_text_parses_back_or_is_refused(text):
    try:
        arch = Architecture.parse(text)
    except ArchitectureError:
        return
    assert str(arch) == text


@pytest.mark.parametrize(
    ('spec', 'said'),
    [
        ('medium', 'neither a preset (seed, small, base, large)'),
        (None, 'None is not an architecture'),
        ({'kernels': [8, 4, 4, 4]}, "no 'splits'"),
        ({'kernels': [8, 4, 4, 4], 'depth': 1}, "unknown key 'depth'"),
        (dict(kernels=8, splits=[2, 1, 1, 1], expansions=[3] * 4, heads=32), 'kernels = 8'),
        (dict(kernels=[8, 4], splits=[2, 1, 1, 1], expansions=[3] * 4, heads=32), '2 values'),
        (
            dict(kernels=[8, 4, 4, 4], splits=[2, 1, 1, 1], expansions=[3] * 4, heads=True),
            'H (heads)',
        ),
        (dict(kernels=[8, 4, 4, 4], splits=[2, 1, 1, 1], expansions=[3] * 4, heads='32'), "'32'"),
    ],
)
def test_other_malformed_specs(spec, said):
    with pytest.raises(ArchitectureError) as error:
        as_architecture(spec)
    assert said in str(error.value)


def test_numpy_integers_are_integers():
    arch = PRESETS['seed'].with_size(np.array([1, 2, 3, 4]), np.int64(40))
    assert str(arch) == '8,2,3,1|4,1,2,2|4,1,4,3|4,1,6,4|32,40'
    assert type(arch.width) is int


def test_immutable_and_no_seed_form_of_a_scaled_architecture():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS['small'].width = 3
    with pytest.raises(ArchitectureError, match='no seed form'):
        dataclasses.replace(PRESETS['small'], seed_form=True)


def test_search_space_has_the_published_size():
    assert SEARCH_SPACE.size == 4_556_250
    names = ['K1', 'S1', 'E1', 'K2', 'S2', 'E2', 'K3', 'S3', 'E3', 'K4', 'E4', 'H']
    assert list(SEARCH_SPACE.choices) == names


def test_search_space_decodes_every_choice():
    first = SEARCH_SPACE.decode([0] * 12)
    last = SEARCH_SPACE.decode([len(v) - 1 for v in SEARCH_SPACE.choices.values()])
    assert str(first) == '4,2,2|2,1,2|2,1,2|2,1,2|16'
    assert str(last) == '8,8,6|4,4,6|4,2,6|4,1,6|64'
    with pytest.raises(ArchitectureError, match='index 5 of K1 is out of range'):
        SEARCH_SPACE.decode([5] + [0] * 11)
    with pytest.raises(ArchitectureError, match='11 indices'):
        SEARCH_SPACE.decode([0] * 11)


def test_samples_are_seeds_reproducible_and_cover_the_choices():
    rng = np.random.default_rng(0)
    samples = [SEARCH_SPACE.sample(rng) for _ in range(300)]
    again = np.random.default_rng(0)
    assert samples == [SEARCH_SPACE.sample(again) for _ in range(300)]
    assert all(arch.is_seed for arch in samples)
    assert {arch.kernels[0] for arch in samples} == set(KERNEL_CHOICES[0])
    assert {arch.heads for arch in samples} == set(HEAD_CHOICES)
    assert not PRESETS['small'].is_seed
