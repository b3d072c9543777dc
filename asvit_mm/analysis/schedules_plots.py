"""Picture of schedules compared: accuracy against the epoch, as in the paper's figure."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..report.figure import BLUE, GREEN, GREY, ORANGE, RED, figure
from ..token_schedule import phases_of_run, read_schedule
from .schedules import FULL

COLOURS = (BLUE, GREEN, ORANGE, RED, '#7a4fa3', '#8a6d3b', '#20889a', '#c23b8f')
# Late epochs are what schedules differ in: the right panel shows errors there.
SHOWN_ERRORS = 4


def plot_schedules(summary: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Top-1 at the full grid after every epoch, mean over the seeds; a triangle where a phase ends.

    The right panel shows the same on a narrower axis: ``SHOWN_ERRORS`` times the smallest error at the end,
    and every end.

    Args:
        summary: of :func:`asvit_mm.analysis.schedules.summarise_schedules`.
    """
    epochs = summary['study']['settings']['epochs']
    x = np.arange(1, epochs + 1)
    with figure(path, 1, 2, (10, 4.4)) as axes:
        ends = []
        colours = iter(COLOURS)
        for row in summary['schedules']:
            name = row['schedule']
            curves = np.array(
                [one['curve'] for one in summary['records'] if one['schedule'] == name]
            )
            colour = '#3c444c' if name == FULL else next(colours, GREY)
            mean = curves.mean(0)
            ends.append(mean[-1])
            label = name if name == FULL else f'{name}: {row["saved"]:.0f} % saved'
            changes = [] if name == FULL else _changes(name, epochs)
            for ax in axes.flat:
                ax.plot(x, mean, color=colour, lw=1.5, label=label)
                ax.fill_between(x, curves.min(0), curves.max(0), color=colour, alpha=0.12, lw=0)
                ax.plot(changes, mean[[e - 1 for e in changes]], '^', color=colour, ms=6.5)
        left, right = axes.flat
        left.set_title('Top-1 accuracy on held-out images (%)')
        right.set_title('The same, enlarged')
        error = max(100 - max(ends), 0.25)
        bottom = max(0.0, 100 - SHOWN_ERRORS * error)
        right.set_ylim(min(bottom, min(ends) - error), min(100.0, max(ends) + error))
        for ax in axes.flat:
            ax.set_xlabel('epoch')
            ax.set_xlim(0, epochs)
        handles, labels = left.get_legend_handles_labels()
        left.figure.legend(
            handles, labels, loc='outside lower center', ncols=min(4, len(labels)), fontsize=8
        )
    return Path(path)


def _changes(schedule: str, epochs: int) -> list[int]:
    """The epochs after which the tokens change."""
    return [int(phase.end) for phase in phases_of_run(read_schedule(schedule), epochs)[:-1]]
