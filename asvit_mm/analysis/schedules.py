"""Schedules of progressive tokenization compared: accuracy, multiply-adds and time of training.

Source of the published figures: As-ViT (arXiv 2202.11921), section 3.5.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..token_schedule import PUBLISHED_SAVINGS

FULL = 'full'


def summarise_schedules(
    study: Mapping[str, Any], records: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What every schedule costs, and what it does to the accuracy.

    Args:
        study: settings, versions and architectures.
        records: of all trainings: ``schedule`` ('full' is without), ``seed``, ``saved`` (per cent of the
            multiply-adds of training), ``trained`` (top1), ``curve`` (top1 after every epoch), ``seconds``.

    Returns:
        Plain data. ``schedules``: for each its name, ``saved``, and means and standard deviations (n - 1 in
        the denominator) over the seeds of ``top1``, of ``difference`` to the full training of the same
        seed (points), of ``seconds`` and of ``time_saved`` (per cent of the full training of the same seed);
        ``study`` and ``records`` as they were given.
    """
    full = {record['seed']: record for record in records if record['schedule'] == FULL}
    names = list(dict.fromkeys(record['schedule'] for record in records))
    rows = []
    for name in names:
        mine = [record for record in records if record['schedule'] == name]
        top1 = [record['trained']['top1'] for record in mine]
        differences = [
            t - full[record['seed']]['trained']['top1']
            for t, record in zip(top1, mine, strict=True)
        ]
        rows.append(
            {
                'schedule': name,
                'saved': mine[0]['saved'],
                'top1': _mean_and_std(top1),
                'difference': _mean_and_std(differences),
                'seconds': _mean_and_std([record['seconds'] for record in mine]),
                'time_saved': _mean_and_std(
                    [100 - 100 * r['seconds'] / full[r['seed']]['seconds'] for r in mine]
                ),
            }
        )
    return {
        'task': 'schedules',
        'study': dict(study),
        'schedules': rows,
        'records': [dict(record) for record in records],
    }


def schedules_report(summary: Mapping[str, Any], command: str, picture: str) -> str:
    """The comparison as a Markdown page: what was done, the table, how to read it, the picture."""
    settings = summary['study']['settings']
    arch = summary['study']['architectures'][0]['arch'].replace('|', '\\|')
    seeds = settings['seeds']
    lines = [
        '# Schedules of progressive tokenization compared',
        '',
        f'`{arch}` trained on {settings["data"]} at {settings["img_size"]} pixels for {settings["epochs"]} '
        f'epochs with each schedule, seeds {settings["seed"]} to {settings["seed"] + seeds - 1}, '
        f'{settings["device"]}, {settings["threads"]} thread(s) a process.',
        '',
        f'    {command}',
        '',
        '| schedule | top-1 | against full | multiply-adds saved | published (ImageNet, 224) | seconds '
        '| time saved |',
        '| --- | ---: | ---: | ---: | ---: | ---: | ---: |',
    ]
    for row in summary['schedules']:
        published = PUBLISHED_SAVINGS.get(row['schedule'])
        cells = [
            row['schedule'],
            f'{_both(row["top1"], 2)} %',
            '' if row['schedule'] == FULL else _both(row['difference'], 2, sign=True),
            f'{row["saved"]:.1f} %',
            '' if published is None else f'{published:g} %',
            _both(row['seconds'], 0),
            '' if row['schedule'] == FULL else f'{_both(row["time_saved"], 1)} %',
        ]
        lines.append('| ' + ' | '.join(cells) + ' |')
    lines += [
        '',
        '- Mean ± standard deviation over the seeds.',
        '- top-1: of the validation set at the full token grid, with the last weights. Against full: points, '
        'to the training of the same seed without a schedule.',
        '- Multiply-adds are counted, of the backbone; seconds are of the training iterations, images '
        'loaded within them, while another process may have been at work.',
        '',
        f'![Accuracy against the epoch]({picture})',
    ]
    return '\n'.join(lines) + '\n'


def _mean_and_std(values: Sequence[float]) -> dict[str, float | None]:
    return {
        'mean': float(np.mean(values)),
        'std': float(np.std(values, ddof=1)) if len(values) > 1 else None,
    }


def _both(found: Mapping[str, float | None], digits: int, *, sign: bool = False) -> str:
    mean, std = found['mean'], found['std']
    shown = f'{mean:+.{digits}f}' if sign else f'{mean:.{digits}f}'
    return shown if std is None else f'{shown} ± {std:.{digits}f}'
