"""Measuring a list of architectures: settings in, a table on the screen and a JSON file out."""

import math
from dataclasses import asdict
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from ..arch import Architecture
from ..errors import InputError
from ..measures import MEASURES, SEARCH_MEASURES, Score, find_measures, measure
from ..utils.files import check_writable, write_figures
from ..utils.units import format_count
from .progress import printed_warnings, show_progress
from .run import load_batches, versions
from .settings import MeasureSettings, find_device
from .subjects import find_subject

DEFAULT_MEASURES = (*SEARCH_MEASURES, 'params', 'flops')
DTYPES = {'float32': torch.float32, 'float64': torch.float64}
DESCRIPTION = ('title', 'higher_is_better', 'cost', 'source')
TABLE_WIDTH = 100


def measure_names(settings: MeasureSettings) -> tuple[str, ...]:
    """Names of the measures, each once, in the order given."""
    names = dict.fromkeys(settings.measures or DEFAULT_MEASURES)
    if 'all' not in names:
        return tuple(names)
    del names['all']
    return tuple(dict.fromkeys([*MEASURES, *names]))


def run_measuring(settings: MeasureSettings) -> dict[str, Any]:
    """Measure every architecture, print the table and write the JSON file; or ``list`` the measures.

    Returns:
        what the file holds: settings, versions, the measures and a record for each architecture.

    Raises:
        InputError: a user's mistake; nothing is written.
    """
    if settings.list:
        print_measures()
        return {}
    names = measure_names(settings)
    infos = find_measures(names)
    if settings.batch_size < 2 and 'ntk_condition_number' in names:
        raise InputError('--batch-size 1 is too small for an NTK condition number: give at least 2')
    check_writable(settings.json)
    archs = {spec: find_subject(spec, settings.pixels, settings.output) for spec in settings.archs}
    if settings.memory is not None and not all(isinstance(a, Architecture) for a in archs.values()):
        raise InputError('--memory bounds architectures of this package only: leave it out')
    device = find_device(settings.device)
    limit = None if settings.memory is None else max(1, round(settings.memory * 2**30))
    needed = any('images' in info.needs for info in infos)
    images = load_batches(settings) if needed else None
    table: dict[str, dict[str, Score]] = {}
    with printed_warnings(), show_progress('measure', len(archs)) as show:
        for spec, arch in archs.items():
            table[spec] = measure(
                arch,
                images,
                names=names,
                img_size=settings.pixels,
                repeat=settings.repeat,
                seed=settings.seed,
                device=device,
                dtype=DTYPES[settings.dtype],
                memory_limit=limit,
            )
            show(len(table), spec)
    result = {
        'task': 'measure',
        'measures': {info.name: {key: getattr(info, key) for key in DESCRIPTION} for info in infos},
        'architectures': [
            {
                'name': spec,
                'arch': str(archs[spec]) if isinstance(archs[spec], Architecture) else spec,
                'scores': {name: _record(score) for name, score in scores.items()},
            }
            for spec, scores in table.items()
        ],
        'settings': {
            **asdict(settings),
            'data': settings.source.spec,
            'measures': names,
            'img_size': settings.pixels,
        },
        'versions': versions(device),
    }
    print_scores(table, settings)
    write_figures(settings.json, result)
    return result


def print_scores(table: dict[str, dict[str, Score]], settings: MeasureSettings) -> None:
    """Print one row per architecture and one column per measure, and below why scores are missing."""
    repeat = 'one network' if settings.repeat == 1 else f'mean ± std of {settings.repeat} networks'
    shown = Table(
        title=f'{settings.pixels} x {settings.pixels} pixels, batches of {settings.batch_size}, '
        f'{repeat}; below each, seconds per network',
        title_justify='left',
    )
    shown.add_column('architecture', overflow='fold')
    for info in find_measures(measure_names(settings)):
        shown.add_column(f'{info.title} {info.arrow}', justify='right', overflow='fold')
    for spec, scores in table.items():
        shown.add_row(spec, *(f'{_figure(s)}\n{s.seconds:.3g} s' for s in scores.values()))
    # What is piped has no width of its own, and a wide table must not be cut.
    width = max(TABLE_WIDTH, 26 * len(measure_names(settings)) + max(map(len, table)) + 4)
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=width)
    console.print(shown)
    for spec, scores in table.items():
        for name, value in scores.items():
            if not value.valid:
                print(f'bad: {spec}, {name}: {value.reason}')


def print_measures() -> None:
    """Print the registry of measures."""
    shown = Table()
    for column in ('name', 'better', 'cost per network', 'source'):
        shown.add_column(column, overflow='fold', no_wrap=column == 'name')
    for info in MEASURES.values():
        better = 'higher' if info.higher_is_better else 'lower'
        shown.add_row(info.name, better, info.cost, info.source)
    console = Console(highlight=False)
    Console(highlight=False, width=max(TABLE_WIDTH, console.width)).print(shown)


def _record(score: Score) -> dict[str, Any]:
    """Plain data: JSON has no NaN, so what is not there is None."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in asdict(score).items()
    }


def _figure(score: Score) -> str:
    """Four significant digits and the deviation; what is counted, with a unit (5.13 G)."""
    if not score.valid:
        return 'bad'
    counted = score.value == round(score.value) and 0 <= score.value < 1e15
    value = format_count(int(score.value)) if counted else f'{score.value:.4g}'
    return f'{value} ± {score.std:.3g}' if score.std > 0 else value
