"""Pictures of a run's report: the policy, what was measured, the family, the architecture; PNG files."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from ..arch import NUM_STAGES, PRESETS, SEARCH_SPACE, Architecture
from ..cost import count_params, token_grids
from ..tokens import BASE_STRIDE, embed_padding, merge_padding, window_count, window_length
from .plots import BLUE, GREEN, GREY, ORANGE, RED, _figure, _measures, step_ticks

DARK, PALE = '#39424c', '#d6e4f5'
SHADES = LinearSegmentedColormap.from_list('shades', ['#e4eef9', '#2f6db5', '#16345c'])
CHOICE_ROWS = {
    'K': 'kernel of the embedding or merging',
    'S': 'windows a side',
    'E': 'feed-forward expansion',
}
PUBLISHED = ('small', 'base', 'large')
# The rows of text below the drawn stages, and the height that the bars below them have at most.
ROWS = (
    'attention within',
    'width of a token',
    'attention',
    'feed-forward expansion',
    'depth (a bar a block)',
)
BARS = 1.6
MERGE_STRIDE = 2
TIMES = '\N{MULTIPLICATION SIGN}'
# Keeps labels legible on top of lines.
HALO = [withStroke(linewidth=2.5, foreground='white')]
# (row, column)
Place = tuple[int, int]
# A band of probability that is thinner than this has no room for its label.
LABELLED = 0.12


def plot_policy(
    policies: Sequence[Sequence[Sequence[float]]], path: str | os.PathLike[str]
) -> Path:
    """The probability of every value of every choice over the steps; one panel a choice.

    Args:
        policies: before the first step and after each: for every choice of the search space the
            probability of each value.
    """
    after = np.arange(len(policies))
    with _figure(path, len(CHOICE_ROWS), NUM_STAGES, (12, 7.2)) as axes:
        for k, (name, values) in enumerate(SEARCH_SPACE.choices.items()):
            # The only choice of no stage takes the place of S4, which is no choice.
            row, stage = ('S', NUM_STAGES) if name == 'H' else (name[0], int(name[1]))
            ax = axes[list(CHOICE_ROWS).index(row), stage - 1]
            probs = np.array([policy[k] for policy in policies]).T
            ax.stackplot(
                after,
                probs,
                colors=SHADES(np.linspace(0.05, 0.95, len(values))),
                lw=0.4,
                ec='white',
            )
            # All values are about equally likely at first, so the names of the bands have room there.
            tops = probs.cumsum(0)
            ax.set_yticks(tops[:, 0] - probs[:, 0] / 2, [str(value) for value in values])
            ends = tops[:, -1] - probs[:, -1] / 2
            for i, value in enumerate(values):
                if probs[i, -1] >= LABELLED:
                    ax.text(
                        0.97 * after[-1],
                        ends[i],
                        f'{value}',
                        ha='right',
                        va='center',
                        fontsize=9,
                        fontweight='bold',
                        color='white' if i > (len(values) - 1) / 3 else DARK,
                    )
            likely = int(probs[:, -1].argmax())
            what = 'heads of stage 4' if name == 'H' else CHOICE_ROWS[row]
            if name != 'H' and row == 'K':
                what = 'kernel of the embedding' if stage == 1 else 'kernel of the merging'
            ax.set_title(
                f'{name}, {what}\nat the end {values[likely]} ({probs[likely, -1]:.0%})'.replace(
                    '%', ' %'
                )
            )
            ax.set(xlim=(0, after[-1]), ylim=(0, 1))
            ax.xaxis.set_major_locator(step_ticks())
            ax.tick_params(axis='y', length=0)
            ax.grid(False)
        for ax in axes[-1]:
            ax.set_xlabel('step')
        for ax in axes[:, 0]:
            ax.set_ylabel('share of each value')
    return Path(path)


def plot_measured(
    trace: Sequence[Mapping[str, Any]],
    result: Mapping[str, Any],
    path: str | os.PathLike[str],
) -> Path:
    """L^E against kappa of all networks that a search measured, the found one marked.

    The published seed's topology is marked too where it is among them.

    Args:
        trace: records of :func:`asvit_mm.nas.iterate_search`.
        result: of the search; its arch and the two measures.
    """
    lengths, kappas = _measures(trace)
    steps = np.array([record['step'] for record in trace])
    with _figure(path, 1, 1, (9, 5.4)) as axes:
        ax = axes[0, 0]
        dots = ax.scatter(
            kappas, lengths, c=steps, cmap=SHADES, s=26, lw=0.3, edgecolor='white', vmin=0
        )
        marked = {'found': (result, '*', RED, 260)}
        published = [record for record in trace if record['arch'] == str(PRESETS['seed'])]
        if published:
            marked['published seed'] = (published[0], 'D', ORANGE, 60)
        for label, (record, marker, color, size) in marked.items():
            if None not in _point(record):
                ax.scatter(
                    *_point(record),
                    marker=marker,
                    color=color,
                    s=size,
                    lw=0.8,
                    edgecolor='white',
                    zorder=3,
                    label=label,
                )
        _axes_of_measures(ax, kappas, lengths)
        ax.set_title('Every network that was measured; better is up and to the left')
        if ax.get_legend_handles_labels()[0]:
            ax.legend(loc='best')
        bar = ax.figure.colorbar(dots, ax=ax, aspect=36, pad=0.02)
        bar.set_label('step')
        bar.ax.yaxis.set_major_locator(step_ticks())
        bar.ax.tick_params(labelsize=8.5, color=GREY)
        bar.outline.set_visible(False)
    return Path(path)


def plot_candidates(
    candidates: Sequence[Mapping[str, Any]],
    series: Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str],
) -> Path:
    """L^E against kappa of all proxies that scaling measured, the series' own joined by a line.

    Args:
        candidates: of all steps, with the two measures.
        series: members of the series, likewise.
    """
    lengths, kappas = _measures(candidates)
    chosen_lengths, chosen_kappas = _measures(series)
    with _figure(path, 1, 1, (9, 5.4)) as axes:
        ax = axes[0, 0]
        ax.plot(kappas, lengths, 'o', color=GREY, ms=3.5, alpha=0.5, mew=0, label='candidates')
        ax.plot(chosen_kappas, chosen_lengths, 'o-', color=BLUE, ms=4.5, lw=1.2, label='the series')
        for member in dict.fromkeys((0, len(series) - 1)):
            point = _point(series[member])
            if None not in point:
                ax.annotate(
                    f'step {series[member]["step"]}',
                    point,
                    xytext=(7, 7),
                    textcoords='offset points',
                    fontsize=9,
                    color=BLUE,
                    fontweight='bold',
                    path_effects=HALO,
                )
        _axes_of_measures(ax, kappas, lengths)
        ax.set_title('Every proxy that was measured; better is up and to the left')
        ax.legend(loc='best')
    return Path(path)


def plot_family(
    series: Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str],
    *,
    num_classes: int,
    img_size: int,
    targets: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Width and depths along a series against parameters, beside the published family.

    Args:
        series: members, with ``arch`` and ``params``.
        num_classes, img_size: of the classifiers that ``params`` counts; the published ones are counted
            with the same.
        targets: members that were asked for, marked.
    """
    published = [PRESETS[name] for name in PUBLISHED]
    counts = [count_params(arch, num_classes, img_size=img_size) / 1e6 for arch in published]
    params = [member['params'] / 1e6 for member in series]
    archs = [Architecture.parse(member['arch']) for member in series]
    wanted = [(t['params'] / 1e6, Architecture.parse(t['arch'])) for t in targets]
    with _figure(path, 2, 3, (12, 6)) as axes:
        for ax, title in zip(axes.flat, _sizes(archs[0]), strict=True):
            values, theirs = (
                [_sizes(arch)[title] for arch in group] for group in (archs, published)
            )
            asked = [_sizes(arch)[title] for _, arch in wanted]
            ax.plot(params, values, 'o-', color=BLUE, ms=3.5, lw=1.5, label='this series')
            if wanted:
                ax.plot(
                    [count for count, _ in wanted],
                    asked,
                    'o',
                    ms=10,
                    mfc='none',
                    mec=GREEN,
                    mew=1.6,
                    label='for a target',
                )
            ax.plot(counts, theirs, 'D', color=ORANGE, ms=6, label='published')
            for name, count, value in zip(PUBLISHED, counts, theirs, strict=True):
                ax.annotate(
                    name[0].upper(),
                    (count, value),
                    xytext=(0, 7),
                    textcoords='offset points',
                    ha='center',
                    fontsize=8.5,
                    color=ORANGE,
                    fontweight='bold',
                    path_effects=HALO,
                )
            ax.set_title(title)
            ax.set_ylim(0, 1.22 * max(values + theirs + asked))
            ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
            _plain_axis(ax, 'x', np.array(params + counts))
            ax.set_xlabel('parameters (millions)')
        axes[0, 0].legend(loc='upper left')
    return Path(path)


def _sizes(arch: Architecture) -> dict[str, int]:
    """What scaling changes, by the titles of :func:`plot_family`'s panels."""
    return {
        'Width of stage 1 (channels)': arch.width,
        'Blocks of all stages': sum(arch.depths),
        **{f'Blocks of stage {i + 1}': depth for i, depth in enumerate(arch.depths)},
    }


def plot_architecture(arch: Architecture, img_size: int, path: str | os.PathLike[str]) -> Path:
    """A drawing of an architecture: what each stage sees of the image, its windows and its blocks.

    Every square is the whole image. One token is followed: the patch that it is made of, the window
    that it looks at, the tokens that are merged with it.

    Args:
        img_size: pixels a side.
    """
    side, gap = 2.0, 0.62
    pitch = min(0.2, BARS / max(arch.depths))
    bars = pitch * max(arch.depths)
    # Bars at the bottom, above them the rows of text (the last one lowest), then the squares.
    lines = [bars + 0.25 + 0.35 * i for i in reversed(range(len(ROWS)))]
    bottom = lines[0] + 0.35
    width, height = 0.1 + 5 * side + 4 * gap + 0.1, bottom + side + 0.72
    lefts = [0.1 + i * (side + gap) for i in range(NUM_STAGES + 1)]
    grids = [rows for rows, _ in token_grids(img_size)]
    tokens, areas = follow(arch, img_size)
    with _figure(path, 1, 1, (width, height)) as axes:
        ax = axes[0, 0]
        ax.axis('off')
        ax.set(xlim=(0, width), ylim=(0, height), aspect='equal')
        for name, y in zip(ROWS, lines, strict=True):
            ax.text(lefts[0] + side, y, name, ha='right', va='center', fontsize=10, color='#6b7580')
            ax.plot([lefts[0] + 0.2, width], [y + 0.175] * 2, color='#e3e7eb', lw=0.8, zorder=0)
        _headline(ax, lefts[0] + side / 2, height, 'Image', f'{_by(img_size)} pixels')
        ax.add_patch(Rectangle((lefts[0], bottom), side, side, fc='#f3f5f7', ec=GREY, lw=1.4))
        for i, grid in enumerate(grids):
            left, kernel = lefts[i + 1], arch.kernels[i]
            _headline(ax, left + side / 2, height, f'Stage {i + 1}', f'{_by(grid)} tokens')
            window = window_length(grid, arch.splits[i])
            _draw_tokens(ax, (left, bottom), side, grid, window, tokens[i])
            before, stride = (grids[i - 1], MERGE_STRIDE) if i else (img_size, BASE_STRIDE)
            _draw_kernel(
                ax,
                _box((lefts[i], bottom), side, before, areas[i], kernel),
                _box((left, bottom), side, grid, tokens[i], 1),
            )
            words = ('kernel', _by(kernel), f'stride {stride}')
            for word, y in zip(words, (0.58, 0.36, 0.14), strict=True):
                ax.text(left - gap / 2, bottom + y, word, ha='center', fontsize=9, color=ORANGE,
                        fontweight='bold' if word == words[1] else 'normal', zorder=5,
                        bbox={'fc': 'white', 'ec': 'none', 'pad': 1})  # fmt: skip
            for text, y in zip(_row_texts(arch, i, grid, window), lines, strict=True):
                ax.text(
                    left + side / 2, y, text, ha='center', va='center', fontsize=10.5, color=DARK
                )
            length = side * arch.widths[i] / max(arch.widths)
            for block in range(1, arch.depths[i] + 1):
                corner = (left + (side - length) / 2, bars + 0.05 - block * pitch)
                ax.add_patch(
                    Rectangle(corner, length, 0.72 * pitch, fc=BLUE, ec='none', alpha=0.85)
                )
    return Path(path)


def follow(arch: Architecture, img_size: int) -> tuple[list[Place], list[Place]]:
    """One token through the stages: where it is, and where the area begins that it is made of.

    The first area is one of pixels, the others are of tokens of the stage before, and hold the token
    followed there. An area may begin before the grid does, in its padding.

    Returns:
        (row, column) of the token in each stage, and of the first pixel or token of each area.
    """
    grids = [rows for rows, _ in token_grids(img_size)]
    tokens = [(int(0.34 * grids[0]), int(0.6 * grids[0]))]
    for _ in grids[1:]:
        tokens.append((tokens[-1][0] // MERGE_STRIDE, tokens[-1][1] // MERGE_STRIDE))
    areas = []
    for i, (row, column) in enumerate(tokens):
        if i == 0:
            stride, (padding, _) = (
                BASE_STRIDE,
                embed_padding(img_size, arch.kernels[0], BASE_STRIDE, 1),
            )
        else:
            stride, (padding, _) = MERGE_STRIDE, merge_padding(grids[i - 1], arch.kernels[i])
        areas.append((stride * row - padding, stride * column - padding))
    return tokens, areas


def _by(side: int) -> str:
    """The size of a square: '56 x 56'."""
    return f'{side} {TIMES} {side}'


def _row_texts(arch: Architecture, stage: int, grid: int, window: int) -> tuple[str, ...]:
    """What :data:`ROWS` says of a stage."""
    count = window_count(grid, window)
    width, expansion, depth = arch.widths[stage], arch.expansions[stage], arch.depths[stage]
    return (
        'all tokens' if count == 1 else f'{_by(count)} windows of {_by(window)}',
        f'{width} channels',
        f'{arch.stage_heads[stage]} heads, each {arch.head_dims[stage]} wide',
        f'{TIMES} {expansion} = {expansion * width} channels',
        f'{depth} block{"s" * (depth > 1)}',
    )


def _headline(ax: Axes, x: float, height: float, title: str, below: str) -> None:
    ax.text(x, height - 0.22, title, ha='center', va='center', fontsize=13, color=DARK,
            fontweight='bold')  # fmt: skip
    ax.text(x, height - 0.5, below, ha='center', va='center', fontsize=10.5, color=DARK)


def _box(
    corner: tuple[float, float], side: float, grid: int, first: Sequence[int], length: int
) -> tuple[float, float, float, float]:
    """(left, bottom, right, top) of ``length`` cells from (row, column) on, within the grid."""
    rows, columns = (
        [min(max(edge, 0), grid) * side / grid for edge in (start, start + length)]
        for start in first
    )
    left, bottom = corner
    return left + columns[0], bottom + side - rows[1], left + columns[1], bottom + side - rows[0]


def _rectangle(box: tuple[float, float, float, float], **style: Any) -> Rectangle:
    left, bottom, right, top = box
    return Rectangle((left, bottom), right - left, top - bottom, **style)


def _draw_tokens(
    ax: Axes,
    corner: tuple[float, float],
    side: float,
    grid: int,
    window: int,
    token: Place,
) -> None:
    """The token grid, its windows, and the one that the followed token is in."""
    left, bottom = corner
    whole = (left, bottom, left + side, bottom + side)
    ax.add_patch(_rectangle(whole, fc='white', ec='none'))
    first = [t // window * window for t in token]
    ax.add_patch(_rectangle(_box(corner, side, grid, first, window), fc=PALE, ec='none'))
    for edges, color, lw in (
        (range(1, grid), '#b9c2cb', min(0.7, 16 / grid)),
        (range(window, grid, window), BLUE, 1.8),
    ):
        at = np.array(edges) * side / grid
        ax.vlines(left + at, bottom, bottom + side, color=color, lw=lw)
        ax.hlines(bottom + side - at, left, left + side, color=color, lw=lw)
    ax.add_patch(_rectangle(whole, fc='none', ec=BLUE, lw=1.8, zorder=2.5))


def _draw_kernel(
    ax: Axes, read: tuple[float, float, float, float], token: tuple[float, float, float, float]
) -> None:
    """What a convolution or merging reads, the token that it makes, and lines between the two."""
    ax.add_patch(_rectangle(read, fc=ORANGE, ec=ORANGE, lw=1.4, alpha=0.35, zorder=3))
    ax.add_patch(_rectangle(read, fc='none', ec=ORANGE, lw=1.4, zorder=3))
    ax.add_patch(_rectangle(token, fc=ORANGE, ec=ORANGE, lw=0.8, alpha=0.8, zorder=4))
    for edge in (1, 3):
        ax.plot([read[2], token[0]], [read[edge], token[edge]], color=ORANGE, lw=0.8, alpha=0.8,
                zorder=3)  # fmt: skip


def _point(record: Mapping[str, Any]) -> tuple[float | None, float | None]:
    return record['ntk_condition_number'], record['length_distortion']


def _axes_of_measures(ax: Axes, kappas: np.ndarray, lengths: np.ndarray) -> None:
    ax.set_xlabel(r'NTK condition number $\kappa$ (lower is better)')
    ax.set_ylabel('length distortion $L^E$ (higher is better)')
    _plain_axis(ax, 'x', kappas)
    _plain_axis(ax, 'y', lengths)


def _plain_axis(ax: Axes, which: str, values: np.ndarray) -> None:
    """A logarithmic axis where values span more than a decade, with plain numbers on either."""
    finite = values[np.isfinite(values)]
    axis = ax.xaxis if which == 'x' else ax.yaxis
    if not len(finite) or not 0 < 10 * finite.min() < finite.max():
        return
    ax.set(**{f'{which}scale': 'log'})
    decades = np.log10(finite.max() / finite.min())
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:,.6g}'))
    axis.set_minor_formatter(NullFormatter())
