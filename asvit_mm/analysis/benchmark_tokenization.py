"""Does progressive tokenization save the time that it promises? Training steps at each token stride."""

from collections.abc import Mapping
from typing import Any

import torch

from ..token_schedule import (
    PUBLISHED,
    PUBLISHED_LENGTH,
    STRIDES,
    mean_cost,
    phases_of_run,
    read_schedule,
)
from ..utils.files import write_figures
from ..utils.timing import device_name
from .benchmark import Setting, time_models
from .settings import TokenizationSettings
from .tables import print_table


def run_tokenization(settings: TokenizationSettings) -> list[dict[str, Any]]:
    """Time training steps of each model at every stride of the published schedules, in turn in one run.

    Returns:
        Plain data of each model: ``steps``, for each stride ``seconds``, ``spread`` and ``macs`` of a
        step's forward pass per image; ``schedules``, for each what it saves, ``time_saved`` and
        ``macs_saved`` in per cent of training at the full grid, and ``seen``, the share of the saved
        multiply-adds that shows on the clock.

    Raises:
        InputError: no such model.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    found = []
    for model in settings.models:
        found.append({'model': model, **_time(model, settings)})
    side = settings.size
    title = (
        f'Training steps, {settings.batch_size} images of {side} x {side}, {settings.dtype}; '
        f'{device_name(settings.device)}'
    )
    _print(title, found)
    write_figures(settings.json, {'title': title, 'models': found})
    return found


def _time(model: str, settings: TokenizationSettings) -> dict[str, Any]:
    models = []
    for stride in STRIDES:
        options = {'token_stride': stride, 'img_size': settings.size}
        size = (settings.size, settings.size)
        setting = Setting(
            'training', settings.device, settings.dtype, settings.batch_size, size, options
        )
        models.append((model, setting))
    timings = time_models(models, settings.rounds)
    steps = {
        stride: {key: timing[key] for key in ('seconds', 'spread', 'macs')}
        for stride, timing in zip(STRIDES, timings, strict=True)
    }
    return {'steps': steps, 'schedules': savings(steps)}


def savings(steps: Mapping[int, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """What the published schedules save, in per cent: see :func:`run_tokenization`.

    Args:
        steps: ``seconds`` and ``macs`` of a step at each stride.
    """
    full, schedules = steps[STRIDES[-1]], {}
    for name in PUBLISHED:
        phases = phases_of_run(read_schedule(name), PUBLISHED_LENGTH)
        time, macs = (
            100 - mean_cost(phases, percent, PUBLISHED_LENGTH)
            for what in ('seconds', 'macs')
            for percent in ({k: 100 * step[what] / full[what] for k, step in steps.items()},)
        )
        schedules[name] = {'time_saved': time, 'macs_saved': macs, 'seen': 100 * time / macs}
    return schedules


def _print(title: str, found: list[dict[str, Any]]) -> None:
    steps = [
        {
            'model': one['model'],
            'stride': str(stride),
            's a step': f'{step["seconds"]:.3f}',
            'spread': f'{step["spread"]:.0%}',
            'time': f'{step["seconds"] / one["steps"][STRIDES[-1]]["seconds"]:.1%}',
            'multiply-adds': f'{step["macs"] / one["steps"][STRIDES[-1]]["macs"]:.1%}',
        }
        for one in found
        for stride, step in one['steps'].items()
    ]
    saved = [
        {
            'model': one['model'],
            'schedule': name,
            'multiply-adds': f'{schedule["macs_saved"]:.1f} %',
            'time': f'{schedule["time_saved"]:.1f} %',
            'of it seen on the clock': f'{schedule["seen"]:.1f} %',
        }
        for one in found
        for name, schedule in one['schedules'].items()
    ]
    print_table(title, steps)
    print_table('What a schedule saves', saved)
