import pytest
from hypothesis import given
from hypothesis import strategies as st

from asvit_mm import tokens
from asvit_mm.errors import InputError


def slow_outputs(size, padding, reach, stride):
    """Places that a window of ``reach`` can start at, counted one by one."""
    length = size + sum(padding)
    return sum(1 for start in range(0, length, stride) if start + reach <= length)


@given(st.integers(1, 300), st.integers(4, 8), st.integers(4, 32), st.integers(1, 6))
def test_embedding_gives_one_token_a_stride(size, kernel, stride, dilation):
    padding = tokens.embed_padding(size, kernel, stride, dilation)
    reach = dilation * (kernel - 1) + 1
    assert slow_outputs(size, padding, reach, stride) == tokens.embedded(size, stride)


@given(st.integers(1, 100), st.sampled_from([2, 3, 4]))
def test_merging_halves_and_rounds_up(size, kernel):
    padding = tokens.merge_padding(size, kernel)
    assert min(padding) >= 0
    assert slow_outputs(size, padding, kernel, 2) == tokens.merged(size) == (size + 1) // 2


@given(st.integers(1, 100), st.sampled_from([2, 3, 4]))
def test_other_roundings_of_merging(size, kernel):
    for rounding, expected in (('down', max(1, size // 2)), ('over', size // 2 + 1)):
        padding = tokens.merge_padding(size, kernel, rounding)
        assert tokens.merged(size, rounding) == expected
        assert slow_outputs(size, padding, kernel, 2) == expected
        # The first patch lies as in the rule that golden figures hold.
        assert padding[0] == tokens.merge_padding(size, kernel)[0]
    assert tokens.stage_sizes(224, 16, 'down') == (14, 7, 3, 1)
    assert tokens.stage_sizes(224, 16, 'over') == (14, 8, 5, 3)


def test_published_paddings():
    for k in (4, 5, 6, 7, 8):
        assert tokens.embed_padding(224, k, 4, 1) == ((k - 4) // 2, (k - 3) // 2)
    for k in (2, 3, 4):
        assert tokens.merge_padding(56, k) == ((k - 2) // 2, (k - 1) // 2)


@pytest.mark.parametrize(
    ('kernel', 'dilations'), [(4, (5, 2, 1)), (8, (2, 1, 1)), (7, (2, 1, 1)), (5, (3, 1, 1))]
)
def test_dilation_rule(kernel, dilations):
    assert tuple(tokens.default_dilation(s, kernel) for s in (16, 8, 4)) == dilations


@given(st.integers(1, 100), st.sampled_from([1, 2, 4, 8]))
def test_windows_cover_the_map_and_none_is_padding_only(size, split):
    window = tokens.window_length(size, split)
    count = tokens.window_count(size, window)
    assert count * window >= size > (count - 1) * window
    assert count <= split


def test_odd_grids():
    assert tokens.stage_sizes(224, 16) == (14, 7, 4, 2)
    assert tokens.stage_sizes(224) == (56, 28, 14, 7)


@pytest.mark.parametrize('size', [0, -4, 2.0, '224', (224,), (1, 2, 3), None, True])
def test_bad_sizes(size):
    with pytest.raises(InputError, match='img_size'):
        tokens.as_pair(size)
