"""Scatter plots of a study: trained accuracy against every measure."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.ticker import MaxNLocator

from ..report.figure import figure

COLUMNS = 3
# A measure that spans more than a decade is drawn on a logarithmic axis.
WIDE = 10


def plot_study(summary: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Top-1 against each measure, one panel each, coloured by parameters; tau in the title.

    Args:
        summary: of :func:`asvit_mm.analysis.summarise`.
    """
    records, measures = summary['records'], summary['measures']
    params = np.array([record['params'] for record in records]) / 1e6
    smallest, largest = params.min(), max(params.max(), 1.01 * params.min())
    norm = LogNorm(smallest, largest)
    columns = min(COLUMNS, len(measures))
    rows = math.ceil(len(measures) / columns)
    with figure(path, rows, columns, (3.9 * columns + 0.9, 3.2 * rows)) as axes:
        for ax in axes.flat[len(measures) :]:
            ax.set_visible(False)
        for ax, measure in zip(axes.flat, measures, strict=False):
            used = [i for i, r in enumerate(records) if _value(r, measure) is not None]
            values = np.array([_value(records[i], measure) for i in used], dtype=float)
            top1 = [records[i]['trained']['top1'] for i in used]
            ax.scatter(
                values,
                top1,
                c=params[used],
                norm=norm,
                cmap='viridis',
                s=22,
                alpha=0.85,
                lw=0,
            )
            if len(values) and 0 < WIDE * values.min() < values.max():
                ax.set_xscale('log')
            else:
                ax.xaxis.set_major_locator(MaxNLocator(5))
                ax.ticklabel_format(axis='x', style='sci', scilimits=(-2, 4))
            better = 'higher' if measure['higher_is_better'] else 'lower'
            ax.set_title(f'{measure["title"]} ({better} is better)\n{_tau(measure["top1"])}')
        for row in axes:
            row[0].set_ylabel('top-1 (%)')
        bar = axes.flat[0].figure.colorbar(
            ScalarMappable(norm, 'viridis'), ax=axes, shrink=0.8, aspect=40
        )
        bar.set_label('parameters (millions)')
        # Few ticks at plain numbers: the sizes of seeds lie within one decade.
        ticks = np.geomspace(smallest, largest, 4)
        bar.set_ticks(ticks.tolist(), labels=[f'{tick:.2f}' for tick in ticks])
        bar.minorticks_off()
    return Path(path)


def _value(record: Mapping[str, Any], measure: Mapping[str, Any]) -> float | None:
    value: float | None = record['measures'][measure['name']]['value']
    return value


def _tau(found: Mapping[str, Any]) -> str:
    if found['tau'] is None:
        return r'$\tau$ not defined'
    interval = '' if found['low'] is None else f' [{found["low"]:+.2f}, {found["high"]:+.2f}]'
    return rf'$\tau$ = {found["tau"]:+.2f}{interval}'
