"""Draw the picture of the method for the README: search, scale, train.

Every figure in it is the repository's own: the scatter shows the search in docs/runs/search, parameters and
multiply-adds are counted by asvit_mm.cost. The photograph comes with scikit-learn.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle
from PIL import Image

from asvit_mm.arch import PRESETS
from asvit_mm.cost import count_macs, count_params, schedule_share, token_grids
from asvit_mm.report.figure import BLUE, DARK, GREY, LIGHT_GREY, RED, SHADES, figure
from asvit_mm.tokens import window_length

ROOT = Path(__file__).resolve().parents[2]
SIZE, CLASSES = 224, 1000
# Epochs after which each phase of the published schedule 80-140 ends, and its token stride.
PHASES = ((80, 16), (140, 8), (300, 4))
# Illustration: probabilities of the values of three design choices.
POLICY = {'kernel': (0.06, 0.1, 0.16, 0.24, 0.44), 'windows': (0.6, 0.28, 0.12),
          'expansion': (0.12, 0.2, 0.38, 0.2, 0.1)}  # fmt: skip
MUTED = '#5b6672'
SMALL, MEDIUM, LARGE = 9.5, 11, 13


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--out', type=Path, default=ROOT / 'docs/images/method.png', help='PNG file'
    )
    return parser.parse_args()


def main() -> None:
    """Draw the three parts side by side; a unit is a pixel."""
    args = parse_args()
    with figure(args.out, 1, 1, (12.3, 4)) as axes:
        ax = axes[0, 0]
        draw_search(ax, 0)
        draw_scaling(ax, 590)
        draw_training(ax, 1065)
        for x in (562, 1037):
            ax.plot([x, x], [10, 500], color=LIGHT_GREY, lw=1)
        ax.set(xlim=(0, 1600), ylim=(0, 510), aspect='equal')
        ax.axis('off')
    # A palette of 256 colours makes the file a third as large.
    Image.open(args.out).quantize(256).save(args.out, optimize=True)
    print(args.out)


def draw_search(ax: Axes, left: float) -> None:
    """The loop of the search: policy, topology, two scores of untrained networks, reward."""
    _heading(ax, left, 1, 'Search', 'a topology by scoring untrained networks')
    box = FancyBboxPatch((left + 5, 262), 190, 148, boxstyle='round,pad=0,rounding_size=10',
                         fc='white', ec=GREY, lw=1.2)  # fmt: skip
    ax.add_patch(box)
    _text(ax, left + 100, 392, 'policy', MEDIUM, fontweight='bold')
    for i, (name, probabilities) in enumerate(POLICY.items()):
        y = 350 - 36 * i
        _text(ax, left + 108, y + 4, name, SMALL, ha='right', color=MUTED)
        for j, probability in enumerate(probabilities):
            ax.add_patch(Rectangle((left + 116 + 14 * j, y - 8), 11, 54 * probability, fc=BLUE))
    _arrow(ax, (left + 202, 340), (left + 262, 340))
    _text(ax, left + 230, 358, 'sample', SMALL, color=RED)
    arch = PRESETS['seed']
    grids = [rows for rows, _ in token_grids(SIZE)]
    x = left + 272.0
    for grid, split, side in zip(grids, arch.splits, (92, 70, 53, 40), strict=True):
        ax.add_patch(Rectangle((x, 350 - side / 2), side, side, fc=SHADES[0], ec=BLUE, lw=1.2))
        window = window_length(grid, split) * side / grid
        edges = np.arange(window, side - 1, window)
        ax.vlines(x + edges, 350 - side / 2, 350 + side / 2, color=BLUE, lw=1.2)
        ax.hlines(350 - side / 2 + edges, x, x + side, color=BLUE, lw=1.2)
        x += side + 8
    _text(ax, left + 410, 284, 'network with random weights', SMALL)
    _arrow(ax, (left + 440, 268), (left + 440, 222))
    _text(ax, left + 454, 246, 'score', SMALL, ha='left', color=RED)
    _arrow(ax, (left + 100, 216), (left + 100, 256))
    _text(ax, left + 114, 236, 'reward', SMALL, ha='left', color=RED)
    _scatter(ax, left + 78, 46, 455, 166)


def _scatter(ax: Axes, left: float, bottom: float, width: float, height: float) -> None:
    """Both scores of every network of the documented search."""
    lines = (ROOT / 'docs/runs/search/trace.jsonl').read_text(encoding='utf-8').splitlines()
    records = [json.loads(line) for line in lines]
    found = json.loads((ROOT / 'docs/runs/search/result.json').read_text(encoding='utf-8'))
    kappas, lengths = (
        np.array([record[name] for record in [*records, found]])
        for name in ('ntk_condition_number', 'length_distortion')
    )
    inner = ax.inset_axes((left, bottom, width, height), transform=ax.transData)
    shades = LinearSegmentedColormap.from_list('shades', SHADES)
    inner.scatter(kappas[:-1], lengths[:-1], c=range(len(records)), cmap=shades, s=11, lw=0)
    inner.scatter(kappas[-1], lengths[-1], marker='*', s=190, color=RED, ec='white', lw=0.7)
    inner.annotate('found', (kappas[-1], lengths[-1]), xytext=(0, 8), textcoords='offset points',
                   ha='center', fontsize=SMALL, color=RED, fontweight='bold')  # fmt: skip
    inner.text(0.99, 0.06, f'{len(records)} steps, later ones darker', transform=inner.transAxes,
               ha='right', fontsize=SMALL, color=MUTED)  # fmt: skip
    inner.set(xscale='log', xticks=[], yticks=[], ylim=(0, 0.0104))
    inner.minorticks_off()
    inner.set_xlabel(
        r'$\leftarrow$ easier to train      NTK condition number $\kappa$', fontsize=SMALL
    )
    inner.set_ylabel(r'more expressive $\rightarrow$' + '\nlength distortion $L^E$', fontsize=SMALL)


def draw_scaling(ax: Axes, left: float) -> None:
    """The published family as towers: a bar per block, as wide as its tokens, coloured by stage."""
    _heading(ax, left, 2, 'Scale', 'it to a budget, still without training')
    _text(ax, left, 398, 'each step adds a block and some width;', SMALL, ha='left')
    _text(ax, left, 374, 'the best-scored candidate is kept', SMALL, ha='left')
    for preset, center in (('seed', 28), ('small', 116), ('base', 236), ('large', 366)):
        arch, x, y = PRESETS[preset], left + center, 108
        for depth, width, color in zip(arch.depths, arch.widths, SHADES, strict=True):
            length = 6 + 0.11 * width
            for _ in range(depth):
                ax.add_patch(Rectangle((x - length / 2, y), length, 12, fc=color, ec='none'))
                y += 16
        params = count_params(arch, CLASSES, img_size=SIZE) / 1e6
        _text(ax, x, 88, preset.capitalize(), MEDIUM, fontweight='bold')
        _text(ax, x, 62, f'{params:.1f} M' if params < 10 else f'{params:.0f} M', MEDIUM)
    _arrow(ax, (left, 34), (left + 330, 34))
    _text(ax, left + 338, 34, 'parameters', SMALL, ha='left', color=RED)
    _text(
        ax, left, 10, 'bars: blocks of stages 1 (light) to 4 (dark)', SMALL, ha='left', color=MUTED
    )


def draw_training(ax: Axes, left: float) -> None:
    """One photograph as the tokens of the three phases see it, with the cost of each."""
    arch = PRESETS['base']
    saved = 1 - schedule_share(arch, PHASES, SIZE, CLASSES)
    _heading(ax, left, 3, 'Train', f'it coarse to fine: {saved:.0%} fewer multiply-adds')
    photo = photograph()
    full = count_macs(arch, SIZE, CLASSES)
    start = 0
    for i, (end, stride) in enumerate(PHASES):
        x, bottom, side, tokens = left + 180 * i, 205, 168, SIZE // stride
        middle = x + side / 2
        _text(ax, middle, 392, f'epochs {start + 1}\N{EN DASH}{end}', SMALL)
        means = photo.reshape(tokens, stride, tokens, stride, 3).mean((1, 3))
        ax.imshow(means, extent=(x, x + side, bottom, bottom + side), interpolation='nearest')
        edges = np.linspace(0, side, tokens + 1)
        ax.vlines(x + edges, bottom, bottom + side, color='white', lw=4 / tokens + 0.12)
        ax.hlines(bottom + edges, x, x + side, color='white', lw=4 / tokens + 0.12)
        _text(ax, middle, 182, f'{tokens} \N{MULTIPLICATION SIGN} {tokens} tokens', MEDIUM)
        _text(ax, middle, 156, f'stride {stride}', SMALL, color=MUTED)
        share = count_macs(arch, SIZE, CLASSES, token_stride=stride) / full
        ax.add_patch(Rectangle((x, 106), side, 26, fc=LIGHT_GREY))
        ax.add_patch(Rectangle((x, 106), side * share, 26, fc=BLUE))
        _text(ax, middle, 82, f'{share:.0%}', LARGE, fontweight='bold')
        start = end
    _text(ax, left + 264, 50, 'of the multiply-adds per image', MEDIUM)
    _text(
        ax,
        left + 264,
        14,
        'same weights; the first convolution changes its stride',
        SMALL,
        color=MUTED,
    )


def photograph() -> np.ndarray:
    """A crop of scikit-learn's photograph of a flower, (SIZE, SIZE, 3) from 0 to 1."""
    # Slow to import, and -h needs none of it.
    from sklearn.datasets import load_sample_image

    image = Image.fromarray(load_sample_image('flower.jpg'))
    side = min(image.size)
    left = (image.width - side) // 2
    crop = image.crop((left, 0, left + side, side)).resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    return np.asarray(crop) / 255


def _heading(ax: Axes, left: float, number: int, title: str, below: str) -> None:
    ax.add_patch(Circle((left + 24, 472), 24, fc=BLUE, ec='none'))
    _text(ax, left + 24, 471, str(number), 16, color='white', fontweight='bold')
    _text(ax, left + 62, 482, title, 18, ha='left', fontweight='bold')
    _text(ax, left + 62, 447, below, MEDIUM, ha='left', color=MUTED)


def _text(
    ax: Axes, x: float, y: float, text: str, size: float, ha: str = 'center', color: str = DARK,
    **style: Any,
) -> None:  # fmt: skip
    ax.text(x, y, text, fontsize=size, ha=ha, va='center', color=color, **style)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    ax.add_patch(
        FancyArrowPatch(start, end, arrowstyle='-|>', mutation_scale=14, color=RED, lw=1.8,
                        shrinkA=0, shrinkB=0)
    )  # fmt: skip


if __name__ == '__main__':
    main()
