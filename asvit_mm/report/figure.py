"""How figures look (colours, fonts, grid), and how they are written: as PNG files, without pyplot."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from ..utils.files import atomic_write_bytes

# Of Okabe and Ito's palette, which people with a colour vision deficiency can tell apart.
BLUE, ORANGE, GREEN, RED = '#0072b2', '#e69f00', '#009e73', '#d55e00'
GREY, LIGHT_GREY, DARK = '#8f99a3', '#e3e7eb', '#39424c'
# Ordered values, from the smallest to the largest.
SHADES = ('#d3e5f2', '#7fb4d8', '#0072b2', '#0b3a5b')

LENGTH_LABEL = 'length distortion $L^E$'
KAPPA_LABEL = r'NTK condition number $\kappa$'

STYLE: dict[Any, Any] = {
    'font.size': 9.5,
    'axes.axisbelow': True,
    'axes.edgecolor': GREY,
    'axes.grid': True,
    'axes.spines.right': False,
    'axes.spines.top': False,
    'axes.titlesize': 10.5,
    'grid.color': LIGHT_GREY,
    'legend.edgecolor': 'none',
    'legend.fontsize': 8.5,
    'xtick.color': GREY,
    'xtick.labelcolor': DARK,
    'ytick.color': GREY,
    'ytick.labelcolor': DARK,
}


@contextmanager
def figure(
    path: str | os.PathLike[str],
    rows: int,
    columns: int,
    size: tuple[float, float],
    height_ratios: list[float] | None = None,
) -> Iterator[np.ndarray]:
    """Yield the axes of a figure, an array (rows, columns); write it to ``path`` (PNG) at the end.

    Args:
        size: (width, height) in inches, 130 pixels each.
        height_ratios: of the rows; None: all equal.
    """
    with rc_context(STYLE):
        drawing = Figure(figsize=size, dpi=130, layout='constrained')
        yield drawing.subplots(rows, columns, squeeze=False, height_ratios=height_ratios)
        png = BytesIO()
        drawing.savefig(png, format='png')
    atomic_write_bytes(path, png.getvalue())


def step_ticks() -> MaxNLocator:
    """Few round numbers for an axis of steps."""
    return MaxNLocator(5, integer=True, steps=[1, 2, 5, 10])


def log_if_wide(ax: Axes, which: str, values: np.ndarray) -> None:
    """Make the 'x' or 'y' axis logarithmic, with plain numbers, where values span over a decade."""
    finite = values[np.isfinite(values)]
    if not len(finite) or not 0 < 10 * finite.min() < finite.max():
        return
    ax.set(**{f'{which}scale': 'log'})
    axis = ax.xaxis if which == 'x' else ax.yaxis
    decades = np.log10(finite.max() / finite.min())
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:,.6g}'))
    axis.set_minor_formatter(NullFormatter())
