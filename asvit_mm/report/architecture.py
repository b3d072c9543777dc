"""A drawing of an architecture: token grids, windows and kernels of the four stages, and their sizes."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import ConnectionPatch, Rectangle

from ..arch import NUM_STAGES, Architecture
from ..cost import token_grids
from ..tokens import embed_padding, merge_padding, window_count, window_length
from .figure import BLUE, DARK, GREY, RED, SHADES, figure

MERGE_STRIDE = 2
# Where the followed token is, as a share of the image's height and width.
FOLLOWED = (0.34, 0.6)
# (row, column)
Place = tuple[int, int]


def plot_architecture(arch: Architecture, img_size: int, path: Path) -> None:
    """Draw every stage as the whole image cut into tokens and windows, with one token followed.

    Args:
        img_size: pixels per side.
    """
    grids = [rows for rows, _ in token_grids(img_size, arch.stride)]
    tokens, areas = follow_token(arch, img_size)
    below = min(0.15 * max(arch.depths) + 0.1, 1.6)
    ratios = [4.2, below]
    with figure(path, 2, NUM_STAGES + 1, (13, sum(ratios)), height_ratios=ratios) as axes:
        for ax, side in zip(axes[0], (img_size, *grids), strict=True):
            # A unit of an axis is a pixel of the image or a token of the stage.
            ax.set(xlim=(0, side), ylim=(side, 0), aspect='equal', xticks=[], yticks=[])
            ax.spines[:].set(visible=True, color=BLUE, lw=1.8)
        for ax in axes[1]:
            ax.axis('off')
        image = axes[0, 0]
        image.set_facecolor('#f3f5f7')
        image.spines[:].set_color(GREY)
        _set_title(image, 'Image', f'{_square(img_size)} pixels')
        for row, name in enumerate(_rows(arch, 0, grids[0])):
            _write_row(image, row, name, x=1.0, ha='right', color='#6b7580')
        for i, (grid, kernel) in enumerate(zip(grids, arch.kernels, strict=True)):
            before, ax, bars = axes[0, i], axes[0, i + 1], axes[1, i + 1]
            window = window_length(grid, arch.splits[i])
            _set_title(ax, f'Stage {i + 1}', f'{_square(grid)} tokens')
            _draw_tokens(ax, grid, window, tokens[i])
            _draw_kernel(before, areas[i], kernel, ax, tokens[i])
            stride = MERGE_STRIDE if i else arch.stride
            ax.text(-0.13, 0.04, f'kernel\n{_square(kernel)}\nstride {stride}', ha='center',
                    transform=ax.transAxes, color='#b34d00', linespacing=1.5)  # fmt: skip
            for row, text in enumerate(_rows(arch, i, grid).values()):
                _write_row(ax, row, text)
            # One bar per block, as wide as the tokens.
            depth, width, widest = arch.depths[i], arch.widths[i], max(arch.widths)
            bars.barh(np.arange(depth), width, 0.7, -width / 2, color=BLUE)
            bars.set(xlim=(-widest / 2, widest / 2), ylim=(max(arch.depths) - 0.4, -0.6))


def follow_token(arch: Architecture, img_size: int) -> tuple[list[Place], list[Place]]:
    """One token through the stages: where it is, and where the area begins that it is made of.

    The first area is made of pixels, the others of tokens of the previous stage, the followed one among
    them. An area may begin before the grid does, in its padding.

    Returns:
        (row, column) of the token in each stage, and of the first pixel or token of each area.
    """
    grids = [rows for rows, _ in token_grids(img_size, arch.stride)]
    row, column = (int(share * grids[0]) for share in FOLLOWED)
    tokens = [(row // MERGE_STRIDE**i, column // MERGE_STRIDE**i) for i in range(NUM_STAGES)]
    paddings = [embed_padding(img_size, arch.kernels[0], arch.stride, 1)[0]]
    paddings += [merge_padding(*sizes)[0] for sizes in zip(grids, arch.kernels[1:], strict=False)]
    strides = [arch.stride] + [MERGE_STRIDE] * (NUM_STAGES - 1)
    areas = [
        (stride * token[0] - padding, stride * token[1] - padding)
        for token, stride, padding in zip(tokens, strides, paddings, strict=True)
    ]
    return tokens, areas


def _square(side: int) -> str:
    """The size of a square: '56 × 56'."""
    return f'{side} \N{MULTIPLICATION SIGN} {side}'


def _rows(arch: Architecture, stage: int, grid: int) -> dict[str, str]:
    """The names and the contents of the rows of text below a stage."""
    window = window_length(grid, arch.splits[stage])
    count = window_count(grid, window)
    width, expansion, depth = arch.widths[stage], arch.expansions[stage], arch.depths[stage]
    heads, head_dim = arch.stage_heads[stage], arch.head_dims[stage]
    return {
        'attention within': (
            'all tokens' if count == 1 else f'{_square(count)} windows of {_square(window)}'
        ),
        'channels': str(width),
        'attention heads': f'{heads} \N{MULTIPLICATION SIGN} {head_dim} channels',
        'feed-forward network': f'\N{MULTIPLICATION SIGN} {expansion} = {expansion * width} channels',
        'depth': f'{depth} block{"s" * (depth > 1)}',
    }


def _set_title(ax: Axes, title: str, below: str) -> None:
    ax.set_title(f'{title}\n', fontsize=13, fontweight='bold', color=DARK)
    ax.text(0.5, 1.05, below, ha='center', transform=ax.transAxes, fontsize=10.5, color=DARK)


def _write_row(
    ax: Axes, row: int, text: str, x: float = 0.5, ha: str = 'center', color: str = DARK
) -> None:
    ax.text(x, -0.13 - 0.145 * row, text, ha=ha, va='center', fontsize=10.5, color=color,
            transform=ax.transAxes)  # fmt: skip


def _draw_tokens(ax: Axes, grid: int, window: int, token: Place) -> None:
    """The tokens, their windows, and the window that the followed token is in."""
    row, column = (place // window * window for place in token)
    ax.add_patch(Rectangle((column, row), window, window, fc=SHADES[0], ec='none'))
    for step, color, lw in ((1, '#b9c2cb', min(0.7, 16 / grid)), (window, BLUE, 1.8)):
        edges = np.arange(step, grid, step)
        ax.vlines(edges, 0, grid, color=color, lw=lw)
        ax.hlines(edges, 0, grid, color=color, lw=lw)


def _draw_kernel(before: Axes, area: Place, kernel: int, ax: Axes, token: Place) -> None:
    """The area that a kernel covers, the token that it makes of it, and lines between the two."""
    (area_row, area_column), (row, column) = area, token
    before.add_patch(Rectangle((area_column, area_row), kernel, kernel, fc=f'{RED}55', ec=RED, lw=1.4,
                               zorder=3))  # fmt: skip
    ax.add_patch(Rectangle((column, row), 1, 1, fc=RED, ec=RED, lw=0.8, zorder=4))
    for down in (0, 1):
        line = ConnectionPatch(
            (area_column + kernel, area_row + down * kernel), (column, row + down), 'data', 'data',
            axesA=before, axesB=ax, color=RED, lw=0.8, alpha=0.8, zorder=3,
        )  # fmt: skip
        line.set_in_layout(False)
        ax.figure.add_artist(line)
