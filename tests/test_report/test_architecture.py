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
    def draw(arch, img_size=224):
        plot_architecture(arch, img_size, tmp_path / 'a.png')
        assert is_picture(tmp_path / 'a.png')
        return (tmp_path / 'a.png').read_bytes()

    arch = PRESETS['large']
    first = draw(arch)
    assert draw(arch) == first
    assert draw(Architecture.parse(str(arch).replace('180', '181'))) != first
    # Grids of one token, and kernels that extend beyond all edges.
    draw(PRESETS['seed'], 9)
