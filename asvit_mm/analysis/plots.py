"""Pictures of the studies, of what a detector finds and of benchmarks, as PNG files."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np

from ..report.figure import (
    BLUE,
    GREEN,
    GREY,
    KAPPA_LABEL,
    LENGTH_LABEL,
    ORANGE,
    RED,
    figure,
    log_if_wide,
)
from ..token_schedule import phases_of_run, read_schedule
from .statistics import Pair

Path = str | os.PathLike[str]
Records = Sequence[Mapping[str, Any]]

COLOURS = (RED, BLUE, GREEN, ORANGE, '#7a4fa3', '#8a6d3b', '#20889a', '#c23b8f')
# Panels a row of scatter plots, images a row of detections.
COLUMNS = 3
IMAGES = 4


def plot_correlations(measures: Records, records: Records, path: Path) -> None:
    """Top-1 against each measure, one panel each, coloured by parameters; tau in the title.

    Args:
        measures: of :func:`asvit_mm.analysis.correlate.summarise`.
        records: of all architectures.
    """
    columns = min(COLUMNS, len(measures))
    rows = math.ceil(len(measures) / columns)
    params = np.array([record['params'] for record in records]) / 1e6
    with figure(path, rows, columns, (3.9 * columns + 0.9, 3.2 * rows)) as axes:
        for ax in axes.flat[len(measures) :]:
            ax.set_visible(False)
        for ax, measure in zip(axes.flat, measures, strict=False):
            values = [record['measures'][measure['name']] for record in records]
            x = np.array([math.nan if value is None else value for value in values])
            points = ax.scatter(x, [r['top1'] for r in records], c=params, s=22, alpha=0.85, lw=0)
            log_if_wide(ax, 'x', x)
            tau = 'not defined' if measure['tau'] is None else f'{measure["tau"]:+.2f}'
            ax.set_title(f'{measure["title"]} ({measure["better"]} is better)\n$\\tau$ {tau}')
            ax.set_ylabel('top-1 (%)')
        bar = axes.flat[0].figure.colorbar(points, ax=axes, shrink=0.8, aspect=40)
        bar.set_label('parameters (millions)')


def plot_percentiles(random: Sequence[Pair], named: Mapping[str, Pair], path: Path) -> None:
    """L^E against kappa of random seeds, and of the named ones; what has no value is left out."""
    points = np.array([*random, *named.values()], float)  # None becomes NaN
    with figure(path, 1, 1, (6.4, 4.8)) as axes:
        ax = axes[0, 0]
        ax.scatter(*points[: len(random)].T, s=16, color=GREY, lw=0, label='random seeds')
        for i, (name, point) in enumerate(zip(named, points[len(random) :], strict=True)):
            ax.scatter(*point, s=60, marker='*', color=COLOURS[i % len(COLOURS)], label=name)
        for which, values in zip('xy', points.T, strict=True):
            log_if_wide(ax, which, values)
        ax.set_xlabel(f'{LENGTH_LABEL} (higher is better)')
        ax.set_ylabel(f'{KAPPA_LABEL} (lower is better)')
        ax.figure.legend(loc='outside lower center', ncols=5)


def plot_methods(searches: Records, path: Path) -> None:
    """Best score so far against what was measured, mean and standard deviation over the seeds.

    Args:
        searches: of :func:`asvit_mm.analysis.compare_methods.summarise`.
    """
    longest = max(len(one['best']) for one in searches)
    x = np.arange(1, longest + 1)
    with figure(path, 1, 1, (6.4, 4.4)) as axes:
        ax = axes[0, 0]
        methods = dict.fromkeys(one['method'] for one in searches)
        for method, color in zip(methods, COLOURS, strict=False):
            # A search that ended earlier keeps its best: what it recalls afterwards costs nothing.
            curves = np.array(
                [
                    np.pad(one['best'], (0, longest - len(one['best'])), 'edge')
                    for one in searches
                    if one['method'] == method
                ]
            )
            mean, std = curves.mean(0), curves.std(0, ddof=1)
            ax.step(x, mean, color=color, lw=1.8, where='post', label=method)
            low, high = np.maximum(mean - std, 0), np.minimum(mean + std, 100)
            ax.fill_between(x, low, high, step='post', color=color, alpha=0.13, lw=0)
        log_if_wide(ax, 'x', x)
        ax.set_xlabel('architectures measured')
        ax.set_ylabel('best score so far (percentile among random seeds)')
        ax.legend(loc='lower right')


def plot_schedules(schedules: Records, records: Records, path: Path) -> None:
    """Top-1 at the full grid after every epoch, mean over the seeds; a triangle where a phase ends.

    Args:
        schedules: of :func:`asvit_mm.analysis.compare_schedules.summarise`.
        records: of all trainings.
    """
    with figure(path, 1, 1, (7, 4.4)) as axes:
        ax = axes[0, 0]
        for i, row in enumerate(schedules):
            name, colour = row['schedule'], COLOURS[i % len(COLOURS)]
            curves = np.array([one['curve'] for one in records if one['schedule'] == name])
            mean, epochs = curves.mean(0), curves.shape[1]
            x = np.arange(1, epochs + 1)
            ax.plot(x, mean, color=colour, lw=1.5, label=f'{name}: {row["saved"]:.0f} % saved')
            ax.fill_between(x, curves.min(0), curves.max(0), color=colour, alpha=0.12, lw=0)
            if name != 'full':
                phases = phases_of_run(read_schedule(name), epochs)[:-1]
                changes = [int(phase.end) for phase in phases]
                ax.plot(changes, mean[[e - 1 for e in changes]], '^', color=colour, ms=6.5)
        ax.set_xlabel('epoch')
        ax.set_ylabel('top-1 of held-out images (%)')
        ax.figure.legend(loc='outside lower center', ncols=4)


def plot_timings(tables: Mapping[str, Records], path: Path) -> None:
    """Bars of milliseconds per billion multiply-adds, one panel per setting, the matrix product as a line.

    Args:
        tables: title to the timings of a setting, of :func:`asvit_mm.analysis.benchmark.time_models`.
    """
    longest = max(map(len, tables.values()))
    with figure(path, len(tables), 1, (9, len(tables) * (1 + 0.32 * longest))) as axes:
        for ax, (title, timings) in zip(axes.flat, tables.items(), strict=True):
            names = [timing['name'] for timing in timings]
            bars = ax.barh(names, [timing['ms_per_gmac'] for timing in timings], color=BLUE)
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
) -> None:
    """Images with the boxes, masks, classes and scores of detections with a score of at least 0.5.

    Args:
        images: uint8 (H, W, 3), RGB.
        samples: mmdet's predictions for them, ``DetDataSample``.
        classes: names of the classes.
    """
    from mmdet.visualization import DetLocalVisualizer

    visualizer = DetLocalVisualizer()
    colours = (mpl.colormaps['tab10'](i % 10, bytes=True)[:3] for i in range(len(classes)))
    palette = [tuple(map(int, colour)) for colour in colours]
    visualizer.dataset_meta = {'classes': classes, 'palette': palette}
    rows = -(-len(images) // IMAGES)
    with figure(path, rows, IMAGES, (3 * IMAGES, 3 * rows)) as axes:
        for ax in axes.flat:
            ax.axis('off')
        for ax, image, sample in zip(axes.flat, images, samples, strict=False):
            visualizer.add_datasample('', image, sample, draw_gt=False, pred_score_thr=0.5)
            ax.imshow(visualizer.get_image())
