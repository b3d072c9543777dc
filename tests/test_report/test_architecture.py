"""The drawing of an architecture, and the token that it follows."""

from hypothesis import given, settings
from hypothesis import strategies as st

from asvit_mm.arch import PRESETS, SEARCH_SPACE, Architecture
from asvit_mm.cost import token_grids
from asvit_mm.report.architecture import follow_token, plot_architecture

from .test_plots import is_picture

SIZES = [len(values) for values in SEARCH_SPACE.choices.values()]
SEEDS = st.tuples(*(st.integers(0, size - 1) for size in SIZES)).map(SEARCH_SPACE.decode)


@given(SEEDS, st.integers(4, 300))
@settings(max_examples=50, deadline=None)
def test_a_token_is_followed(arch, img_size):
    tokens, areas = follow_token(arch, img_size)
    grids = [rows for rows, _ in token_grids(img_size)]
    for token, grid in zip(tokens, grids, strict=True):
        assert all(0 <= place < grid for place in token)
    for before, area, kernel in zip(tokens, areas[1:], arch.kernels[1:], strict=False):
        for place, start in zip(before, area, strict=True):
            assert start <= place < start + kernel
    # The kernel covers the 4 pixels per side that are the token's alone.
    for place, start in zip(tokens[0], areas[0], strict=True):
        assert start <= 4 * place
        assert start + arch.kernels[0] >= 4 * place + 4


def test_drawing(tmp_path):
    arch = PRESETS['large']
    first = plot_architecture(arch, 224, tmp_path / 'a.png')
    assert is_picture(first)
    assert plot_architecture(arch, 224, tmp_path / 'b.png').read_bytes() == first.read_bytes()
    wider = Architecture.parse(str(arch).replace('180', '181'))
    assert plot_architecture(wider, 224, tmp_path / 'b.png').read_bytes() != first.read_bytes()
    # Grids of one token, and kernels that reach over all edges.
    assert is_picture(plot_architecture(PRESETS['seed'], 9, tmp_path / 'c.png'))
