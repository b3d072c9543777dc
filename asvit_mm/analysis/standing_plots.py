"""Pictures of where seeds stand among random ones, of repeats, and of search methods compared."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from ..report.figure import BLUE, GREEN, GREY, KAPPA_LABEL, LENGTH_LABEL, ORANGE, RED, figure
from .comparison import unfold
from .standing import Pair, pair_of

COLOURS = (RED, BLUE, GREEN, ORANGE, '#7a4fa3', '#8a6d3b', '#20889a', '#c23b8f')
MARKERS = '*DsP^vXo'
TITLES = {'length_distortion': 'length distortion $L^E$', 'ntk_condition_number': KAPPA_LABEL}
# An axis whose values span more than this factor is logarithmic.
WIDE = 4


def plot_standing(summary: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """L^E against kappa of the random seeds, the named ones marked.

    Args:
        summary: of :func:`asvit_mm.analysis.summarise_standing`.
    """
    num = summary['study']['settings']['num']
    pairs = {record['arch']: pair_of(record) for record in summary['records']}
    drawn = [pairs[record['arch']] for record in summary['records'][:num]]
    random = _points([pair for pair in drawn if None not in pair])
    with figure(path, 1, 1, (6.4, 4.8)) as axes:
        ax = axes[0, 0]
        ax.scatter(
            *random.T, s=16, color=GREY, alpha=0.75, lw=0, label=f'{len(random)} random seeds'
        )
        shown = [random]
        for i, one in enumerate(summary['named']):
            pair = pairs[one['arch']]
            if None in pair:
                continue
            shown.append(_points([pair]))
            ax.scatter(
                *pair,
                s=110 if MARKERS[i % len(MARKERS)] == '*' else 48,
                color=COLOURS[i % len(COLOURS)],
                marker=MARKERS[i % len(MARKERS)],
                edgecolor='white',
                lw=0.7,
                zorder=3,
                label=one['name'],
            )
        points = np.concatenate(shown)
        for i, (scale, axis) in enumerate(((ax.set_xscale, ax.xaxis), (ax.set_yscale, ax.yaxis))):
            if len(points) and 0 < WIDE * points[:, i].min() < points[:, i].max():
                scale('log')
                # Plain numbers: the values lie within a decade or two.
                axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axis.set_major_formatter('{x:g}')
                axis.set_minor_formatter(NullFormatter())
        ax.set_xlabel(f'{LENGTH_LABEL} (higher is better)')
        ax.set_ylabel(f'{KAPPA_LABEL} (lower is better)')
        ax.set_title('Random and named seeds')
        ax.figure.legend(loc='outside lower center', ncols=5)
    return Path(path)


def plot_repeats(summary: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Agreement of ranks against the number of networks averaged; a panel a measure."""
    with figure(path, 1, len(summary['repeats']), (9, 4)) as axes:
        for ax, (name, table) in zip(axes.flat, summary['repeats'].items(), strict=True):
            for key, color, label in (
                ('rest', BLUE, r'$\tau$ with the mean of all others'),
                ('as_many', ORANGE, r'$\tau$ with the mean of as many others'),
            ):
                _agreement(ax, table['rows'], key, color, label)
            known = [row for row in table['rows'] if row['reliability'] is not None]
            ax.plot(
                [row['networks'] for row in known],
                [row['reliability'] for row in known],
                's--',
                color=GREY,
                ms=3.5,
                lw=1.4,
                label='reliability (from the variances)',
            )
            ax.set_xlabel('networks averaged')
            ax.set_xticks([row['networks'] for row in table['rows']])
            ax.set_ylim(min(0, ax.get_ylim()[0]), 1.02)
            ax.set_title(TITLES[name])
        first = axes.flat[0]
        first.set_ylabel('agreement (1: alike)')
        first.figure.legend(
            *first.get_legend_handles_labels(),
            loc='outside lower center',
            ncols=3,
            fontsize=8.5,
            frameon=False,
        )
    return Path(path)


def plot_comparison(summary: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Best score so far against what was measured, and the scores of the results.

    Args:
        summary: of :func:`asvit_mm.analysis.summarise_comparison`.
    """
    with figure(path, 1, 2, (10, 4.2)) as axes:
        left, right = axes.flat
        names = [method['method'] for method in summary['methods']]
        for i, method in enumerate(summary['methods']):
            color, style = (BLUE, ORANGE, GREEN)[i % 3], ('-', '--', '-.')[i % 3]
            curves = [unfold(one['improvements'], one['measured']) for one in method['searches']]
            longest = max(map(len, curves))
            # A search that ended earlier keeps its best: what it recalls afterwards costs nothing.
            table = np.array([c + [c[-1]] * (longest - len(c)) for c in curves])
            x, mean, std = np.arange(1, longest + 1), table.mean(0), table.std(0, ddof=1)
            left.step(x, mean, style, color=color, lw=1.8, where='post', label=method['method'])
            left.fill_between(
                x,
                np.maximum(mean - std, 0),
                np.minimum(mean + std, 100),
                step='post',
                color=color,
                alpha=0.13,
                lw=0,
            )
            scores = np.array([one['score'] for one in method['searches']])
            spread = np.linspace(-0.12, 0.12, len(scores))
            right.plot(i + spread, scores, 'o', color=color, ms=6, alpha=0.7, mew=0)
            right.plot([i - 0.22, i + 0.22], [scores.mean()] * 2, color=color, lw=2)
        left.set_xscale('log')
        left.minorticks_off()
        top = left.get_xlim()[1]
        ticks = [digit * 10**power for power in range(6) for digit in (1, 2, 5)]
        ticks = [tick for tick in ticks if tick <= top]
        left.set_xticks(ticks, list(map(str, ticks)))
        left.set_xlabel('architectures measured')
        left.set_ylabel('score (percentile among random seeds)')
        left.set_title('Best so far, as measured in the search (mean ± std)')
        left.legend(loc='lower right')
        right.axhline(50, color=GREY, lw=1.2, ls='--')
        right.text(len(names) - 0.5, 50.5, 'a random seed', ha='right', va='bottom', fontsize=8)
        right.set_xticks(range(len(names)), names)
        right.set_xlim(-0.5, len(names) - 0.5)
        right.set_ylabel('score')
        right.set_title('Results measured anew (dots: seeds, line: mean)')
        right.grid(axis='x', visible=False)
    return Path(path)


def _points(pairs: Sequence[Pair]) -> np.ndarray:
    """(pairs, 2)."""
    return np.array(pairs, dtype=float).reshape(-1, 2)


def _agreement(
    ax: Axes, rows: Sequence[Mapping[str, Any]], key: str, color: str, label: str
) -> None:
    # r against the rest and the rest against r are the same splits.
    half = [row for row in rows if 2 * row['networks'] <= len(rows) and row[key] is not None]
    known = [row for row in half if row[key]['tau'] is not None]
    ax.errorbar(
        [row['networks'] for row in known],
        [row[key]['tau'] for row in known],
        [row[key]['tau_std'] for row in known],
        fmt='o-',
        color=color,
        ms=4,
        lw=1.6,
        capsize=3,
        label=label,
    )
