"""Pictures of the studies, of what a detector finds and of benchmarks, as PNG files."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from ..report.figure import BLUE, GREEN, GREY, KAPPA_LABEL, LENGTH_LABEL, ORANGE, RED, figure
from ..token_schedule import phases_of_run, read_schedule
from .statistics import Pair

Path = str | os.PathLike[str]
Records = Sequence[Mapping[str, Any]]

COLOURS = (RED, BLUE, GREEN, ORANGE, '#7a4fa3', '#8a6d3b', '#20889a', '#c23b8f')
MARKERS = '*DsP^vXo'
LABELS = {'length_distortion': LENGTH_LABEL, 'ntk_condition_number': KAPPA_LABEL}
# Panels a row of scatter plots, images a row of detections.
COLUMNS = 3
IMAGES = 4
# The enlarged panel of accuracies shows this many times the smallest error.
SHOWN_ERRORS = 4


def plot_correlations(measures: Records, records: Records, path: Path) -> None:
    """Top-1 against each measure, one panel each, coloured by parameters; tau in the title.

    Args:
        measures: of :func:`asvit_mm.analysis.correlate.summarise`.
        records: of all architectures.
    """
    params = np.array([record['params'] for record in records]) / 1e6
    smallest, largest = params.min(), max(params.max(), 1.01 * params.min())
    norm = LogNorm(smallest, largest)
    columns = min(COLUMNS, len(measures))
    rows = math.ceil(len(measures) / columns)
    with figure(path, rows, columns, (3.9 * columns + 0.9, 3.2 * rows)) as axes:
        for ax in axes.flat[len(measures) :]:
            ax.set_visible(False)
        for ax, measure in zip(axes.flat, measures, strict=False):
            values = [record['measures'][measure['name']]['value'] for record in records]
            used = [i for i, value in enumerate(values) if value is not None]
            x = np.array([values[i] for i in used])
            top1 = [records[i]['trained']['top1'] for i in used]
            ax.scatter(x, top1, c=params[used], norm=norm, cmap='viridis', s=22, alpha=0.85, lw=0)
            if len(x) and 0 < 10 * x.min() < x.max():
                ax.set_xscale('log')
            else:
                ax.xaxis.set_major_locator(MaxNLocator(5))
                ax.ticklabel_format(axis='x', style='sci', scilimits=(-2, 4))
            better = 'higher' if measure['higher_is_better'] else 'lower'
            ax.set_title(f'{measure["title"]} ({better} is better)\n{_tau(measure["top1"])}')
        for row in axes:
            row[0].set_ylabel('top-1 (%)')
        scale = ScalarMappable(norm, 'viridis')
        bar = axes.flat[0].figure.colorbar(scale, ax=axes, shrink=0.8, aspect=40)
        bar.set_label('parameters (millions)')
        # Few ticks at plain numbers: the sizes of seeds lie within one decade.
        ticks = np.geomspace(smallest, largest, 4)
        bar.set_ticks(ticks.tolist(), labels=[f'{tick:.2f}' for tick in ticks])
        bar.minorticks_off()


def plot_percentiles(random: Sequence[Pair], named: Mapping[str, Pair], path: Path) -> None:
    """L^E against kappa of random seeds, and of the named ones; what has no value is left out."""
    points = np.array([pair for pair in random if None not in pair], float).reshape(-1, 2)
    known = {name: pair for name, pair in named.items() if None not in pair}
    everything = np.concatenate([points, np.array([*known.values()], float).reshape(-1, 2)])
    with figure(path, 1, 1, (6.4, 4.8)) as axes:
        ax = axes[0, 0]
        label = f'{len(points)} random seeds'
        ax.scatter(*points.T, s=16, color=GREY, alpha=0.75, lw=0, label=label)
        for i, (name, pair) in enumerate(known.items()):
            marker = MARKERS[i % len(MARKERS)]
            style = {'color': COLOURS[i % len(COLOURS)], 'edgecolor': 'white', 'lw': 0.7}
            size = 110 if marker == '*' else 48
            ax.scatter(*pair, s=size, marker=marker, zorder=3, label=name, **style)
        for i, axis in enumerate((ax.xaxis, ax.yaxis)):
            if len(everything) and 0 < 4 * everything[:, i].min() < everything[:, i].max():
                ax.set(**{'xy'[i] + 'scale': 'log'})
                # Plain numbers: the values lie within a decade or two.
                axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axis.set_major_formatter('{x:g}')
                axis.set_minor_formatter(NullFormatter())
        ax.set_xlabel(f'{LENGTH_LABEL} (higher is better)')
        ax.set_ylabel(f'{KAPPA_LABEL} (lower is better)')
        ax.set_title('Random and named seeds')
        ax.figure.legend(loc='outside lower center', ncols=5)


def plot_repeats(tables: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Agreement of ranks against the number of networks averaged; one panel per measure.

    Args:
        tables: name of the measure to :func:`asvit_mm.analysis.statistics.repeat_table`.
    """
    with figure(path, 1, len(tables), (9, 4)) as axes:
        for ax, (name, table) in zip(axes.flat, tables.items(), strict=True):
            rows = [row for row in table['rows'] if row['tau'] is not None]
            x, tau, std = ([row[key] for row in rows] for key in ('networks', 'tau', 'tau_std'))
            ax.errorbar(
                x, tau, std, fmt='o-', color=BLUE, ms=4, capsize=3,
                label=r'$\tau$ with the mean of the others',
            )  # fmt: skip
            known = [row for row in table['rows'] if row['reliability'] is not None]
            x, reliability = ([row[key] for row in known] for key in ('networks', 'reliability'))
            ax.plot(x, reliability, 's--', color=GREY, ms=3.5, label='reliability')
            ax.set_xlabel('networks averaged')
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            ax.set_ylim(min(0, ax.get_ylim()[0]), 1.02)
            ax.set_title(LABELS[name])
        axes[0, 0].set_ylabel('agreement (1: alike)')
        handles = axes[0, 0].get_legend_handles_labels()
        axes[0, 0].figure.legend(*handles, loc='outside lower center', ncols=2)


def plot_methods(methods: Records, path: Path) -> None:
    """Best score so far against what was measured, and the scores of the results.

    Args:
        methods: of :func:`asvit_mm.analysis.compare_methods.summarise`.
    """
    with figure(path, 1, 2, (10, 4.2)) as axes:
        left, right = axes.flat
        for i, method in enumerate(methods):
            color, style = (BLUE, ORANGE, GREEN)[i % 3], ('-', '--', '-.')[i % 3]
            curves = best_curves(method['searches'])
            x, mean, std = np.arange(1, curves.shape[1] + 1), curves.mean(0), curves.std(0, ddof=1)
            left.step(x, mean, style, color=color, lw=1.8, where='post', label=method['method'])
            low, high = np.maximum(mean - std, 0), np.minimum(mean + std, 100)
            left.fill_between(x, low, high, step='post', color=color, alpha=0.13, lw=0)
            scores = np.array([one['figures']['result'] for one in method['searches']])
            spread = np.linspace(-0.12, 0.12, len(scores))
            right.plot(i + spread, scores, 'o', color=color, ms=6, alpha=0.7, mew=0)
            right.plot([i - 0.22, i + 0.22], [scores.mean()] * 2, color=color, lw=2)
        left.set_xscale('log')
        left.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        left.xaxis.set_major_formatter('{x:g}')
        left.xaxis.set_minor_formatter(NullFormatter())
        left.set_xlabel('architectures measured')
        left.set_ylabel('score (percentile among random seeds)')
        left.set_title('Best so far, as measured in the search (mean ± std)')
        left.legend(loc='lower right')
        right.axhline(50, color=GREY, lw=1.2, ls='--')
        right.text(len(methods) - 0.5, 50.5, 'a random seed', ha='right', va='bottom', fontsize=8)
        right.set_xticks(range(len(methods)), [method['method'] for method in methods])
        right.set_xlim(-0.5, len(methods) - 0.5)
        right.set_ylabel('score')
        right.set_title('Results measured anew (dots: seeds, line: mean)')
        right.grid(axis='x', visible=False)


def best_curves(searches: Records) -> np.ndarray:
    """The best score after 1, 2, ... measurements of each search, (searches, longest).

    A search that ended earlier keeps its best: what it recalls afterwards costs nothing.
    """
    longest = int(max(one['figures']['measured'] for one in searches))
    curves = np.empty((len(searches), longest))
    for curve, one in zip(curves, searches, strict=True):
        for start, value in one['improvements']:
            curve[start - 1 :] = value
    return curves


def plot_schedules(schedules: Records, records: Records, path: Path) -> None:
    """Top-1 at the full grid after every epoch, mean over the seeds; a triangle where a phase ends.

    The right panel shows the same on a narrower axis: ``SHOWN_ERRORS`` times the smallest error at the end,
    and every end.

    Args:
        schedules: of :func:`asvit_mm.analysis.compare_schedules.summarise`.
        records: of all trainings.
    """
    colours = iter(COLOURS)
    ends = []
    with figure(path, 1, 2, (10, 4.4)) as axes:
        for row in schedules:
            name = row['schedule']
            curves = np.array([one['curve'] for one in records if one['schedule'] == name])
            mean, epochs = curves.mean(0), curves.shape[1]
            ends.append(mean[-1])
            changes, colour, label = [], '#3c444c', name
            if name != 'full':
                phases = phases_of_run(read_schedule(name), epochs)[:-1]
                changes, colour = [int(phase.end) for phase in phases], next(colours, GREY)
                label = f'{name}: {row["saved"]:.0f} % saved'
            x = np.arange(1, epochs + 1)
            for ax in axes.flat:
                ax.plot(x, mean, color=colour, lw=1.5, label=label)
                ax.fill_between(x, curves.min(0), curves.max(0), color=colour, alpha=0.12, lw=0)
                ax.plot(changes, mean[[e - 1 for e in changes]], '^', color=colour, ms=6.5)
                ax.set_xlabel('epoch')
        left, right = axes.flat
        left.set_title('Top-1 accuracy on held-out images (%)')
        right.set_title('The same, enlarged')
        error = max(100 - max(ends), 0.25)
        bottom = max(0.0, 100 - SHOWN_ERRORS * error)
        right.set_ylim(min(bottom, min(ends) - error), min(100.0, max(ends) + error))
        handles, labels = left.get_legend_handles_labels()
        columns = min(4, len(labels))
        left.figure.legend(handles, labels, loc='outside lower center', ncols=columns, fontsize=8)


def plot_timings(tables: Mapping[str, Records], path: Path) -> None:
    """Bars of milliseconds per billion multiply-adds, one panel per setting, the matrix product as a line.

    Args:
        tables: title to the timings of a setting, as :class:`asvit_mm.analysis.benchmark.Timing` has them.
    """
    longest = max(map(len, tables.values()))
    with figure(path, len(tables), 1, (9, len(tables) * (1 + 0.32 * longest))) as axes:
        for ax, (title, timings) in zip(axes.flat, tables.items(), strict=True):
            colours = [GREY if ':' in timing['name'] else BLUE for timing in timings]
            names = [timing['name'] for timing in timings]
            bars = ax.barh(names, [timing['ms_per_gmac'] for timing in timings], color=colours)
            ax.bar_label(bars, fmt='%.3g', padding=3, fontsize=8)
            ax.axvline(timings[0]['floor_ms_per_gmac'], color=RED, lw=1, ls='--')
            ax.invert_yaxis()
            ax.set_title(f'{title} (dashed: matrix product)', loc='left')
            ax.set_xlabel('ms per billion multiply-adds, less is better')


def plot_detections(
    images: Sequence[np.ndarray],
    samples: Sequence[Any],
    classes: Sequence[str],
    path: Path,
    *,
    score: float = 0.5,
) -> None:
    """Images with the boxes, masks, classes and scores of what was found in them.

    Args:
        images: uint8 (H, W, 3), RGB.
        samples: mmdet's predictions for them, ``DetDataSample``.
        classes: names of the classes.
        score: what is less certain is left out.
    """
    rows = -(-len(images) // IMAGES)
    with figure(path, rows, IMAGES, (3 * IMAGES, 3 * rows)) as axes:
        for ax in axes.flat:
            ax.axis('off')
        for ax, image, sample in zip(axes.flat, images, samples, strict=False):
            ax.imshow(image)
            found = sample.pred_instances
            _draw_instances(ax, found[found.scores > score].cpu().numpy(), classes)


def _draw_instances(ax: Axes, found: Any, classes: Sequence[str]) -> None:
    for i, (box, label) in enumerate(zip(found.bboxes, found.labels, strict=True)):
        colour = mpl.colormaps['tab10'](label % 10)[:3]
        if 'masks' in found:
            overlay = np.zeros((*found.masks[i].shape, 4))
            overlay[found.masks[i].astype(bool)] = (*colour, 0.5)
            ax.imshow(overlay)
        left, top, right, bottom = box
        size = right - left, bottom - top
        ax.add_patch(Rectangle((left, top), *size, fill=False, edgecolor=colour, lw=1.5))
        text = f'{classes[label]} {found.scores[i]:.2f}'
        frame = dict(facecolor=colour, edgecolor='none', pad=1)
        ax.text(left, top, text, fontsize=7, color='white', va='bottom', clip_on=True, bbox=frame)


def _tau(found: Mapping[str, Any]) -> str:
    if found['tau'] is None:
        return r'$\tau$ not defined'
    interval = '' if found['low'] is None else f' [{found["low"]:+.2f}, {found["high"]:+.2f}]'
    return rf'$\tau$ = {found["tau"]:+.2f}{interval}'
