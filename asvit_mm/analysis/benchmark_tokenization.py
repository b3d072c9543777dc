"""Does progressive tokenization save the time that it promises? Training steps at each token stride."""

from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from ..token_schedule import (
    PUBLISHED,
    PUBLISHED_LENGTH,
    STRIDES,
    mean_cost,
    phases_of_run,
    read_schedule,
)
from ..utils.files import atomic_write_json
from ..utils.timing import device_name, median_and_spread, time_in_turn
from .benchmark import Contestant, Setting
from .settings import TokenizationSettings


def run_tokenization(settings: TokenizationSettings) -> list[dict[str, Any]]:
    """Time training steps of each model at every stride of the published schedules, in turn in one run.

    Returns:
        Plain data of each model: ``steps``, for each stride ``seconds``, ``spread`` and ``macs`` of a
        step's forward pass per image; ``percent``, seconds and multiply-adds of a step by stride, in per
        cent of one at the full grid; ``schedules``, for each what it saves, ``time_saved`` and
        ``macs_saved`` in per cent, and ``seen``, the share of the saved multiply-adds that shows on the
        clock.

    Raises:
        InputError: no such model.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    found = []
    for model in settings.models:
        print(f'timing {model}', flush=True)
        found.append({'model': model, **_time(model, settings)})
    title = (
        f'Training steps, {settings.batch_size} images of {settings.size} x {settings.size}, '
        f'{settings.dtype}; {device_name(settings.device)}'
    )
    _print(title, found)
    if settings.json is not None:
        written = atomic_write_json(settings.json, {'title': title, 'models': found})
        print(f'written: {written}')
    return found


def _time(model: str, settings: TokenizationSettings) -> dict[str, Any]:
    contestants = []
    for stride in STRIDES:
        setting = Setting(
            'training',
            settings.device,
            settings.dtype,
            settings.batch_size,
            (settings.size, settings.size),
            {'token_stride': stride, 'img_size': settings.size},
        )
        contestants.append(Contestant(model, setting))
        for _ in range(2):
            contestants[-1].call()
    taken = time_in_turn([c.call for c in contestants], settings.device, settings.rounds)
    steps = {}
    for stride, seconds, contestant in zip(STRIDES, taken, contestants, strict=True):
        median, spread = median_and_spread(seconds)
        steps[stride] = {'seconds': median, 'spread': spread, 'macs': contestant.macs}
    full = steps[STRIDES[-1]]
    percent = {
        what: {stride: 100 * step[what] / full[what] for stride, step in steps.items()}
        for what in ('seconds', 'macs')
    }
    schedules = {}
    for name in PUBLISHED:
        phases = phases_of_run(read_schedule(name), PUBLISHED_LENGTH)
        time, macs = (
            100 - mean_cost(phases, percent[what], PUBLISHED_LENGTH) for what in ('seconds', 'macs')
        )
        schedules[name] = {'time_saved': time, 'macs_saved': macs, 'seen': 100 * time / macs}
    return {'steps': steps, 'percent': percent, 'schedules': schedules}


def _print(title: str, found: list[dict[str, Any]]) -> None:
    steps = Table(title=title, title_justify='left')
    for column in ('model', 'stride', 's a step', 'spread', 'time', 'multiply-adds'):
        steps.add_column(column, justify='left' if column == 'model' else 'right')
    saved = Table(title='What a schedule saves', title_justify='left')
    for column in ('model', 'schedule', 'multiply-adds', 'time', 'of it seen on the clock'):
        saved.add_column(column, justify='left' if column == 'model' else 'right')
    for one in found:
        for stride, step in one['steps'].items():
            shares = [f'{one["percent"][what][stride]:.1f} %' for what in ('seconds', 'macs')]
            measured = f'{step["seconds"]:.3f}', f'{step["spread"]:.0%}'
            steps.add_row(one['model'], str(stride), *measured, *shares)
        for name, schedule in one['schedules'].items():
            figures = [f'{schedule[key]:.1f} %' for key in ('macs_saved', 'time_saved', 'seen')]
            saved.add_row(one['model'], name, *figures)
    console = Console(highlight=False, width=100)
    console.print(steps)
    console.print(saved)
