"""What a study found: as plain data, as a table on the screen, as Markdown."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.table import Table

from ..measures import MEASURES
from .statistics import CONFIDENCE, RESAMPLES, correlate

# Columns of a screen that shows every cell of the table whole.
TABLE_WIDTH = 120
# Kendall's tau against trained accuracy as published (As-ViT, section 3.2).
PUBLISHED_TAU = {'length_distortion': 0.49}
TARGETS = {'top1': 1, 'val_loss': -1}  # and the sign that makes higher better


def summarise(study: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Correlations of every measure with what training reached; plain data, None for undefined.

    Args:
        study: settings, versions and architectures (see :class:`StudyFolder`).
        records: of all its architectures.

    Returns:
        ``measures``: for each, its direction, published tau, seconds of one network, the
        architectures left out and, under ``top1`` and ``val_loss``, a
        :class:`~asvit_mm.analysis.statistics.Correlation`; ``accuracy``: how the trained networks spread;
        ``study`` and ``records`` as they were given.
    """
    settings = study['settings']
    measures = []
    for name in settings['measures']:
        info = MEASURES[name]
        bad = [
            {'arch': record['arch'], 'reason': record['measures'][name]['reason']}
            for record in records
            if record['measures'][name]['value'] is None
        ]
        seconds = [record['seconds']['measures'][name] for record in records]
        measures.append(
            {
                'name': name,
                'title': info.title,
                'higher_is_better': info.higher_is_better,
                'published_tau': PUBLISHED_TAU.get(name),
                'seconds_a_network': float(np.median(seconds)),
                'left_out': bad,
                **{
                    target: _correlation(name, target, records, settings['seed'])
                    for target in TARGETS
                },
            }
        )
    return {
        'task': 'correlate',
        'study': dict(study),
        'confidence': CONFIDENCE,
        'resamples': RESAMPLES,
        'accuracy': _spread(records),
        'measures': measures,
        'records': [dict(record) for record in records],
    }


def screen_table(summary: Mapping[str, Any]) -> Table:
    """The correlations as a table for the screen."""
    header, rows = _cells(summary)
    table = Table(box=None, pad_edge=False)
    for i, title in enumerate(header):
        table.add_column(title, justify='left' if i < 2 else 'right', no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def markdown_report(summary: Mapping[str, Any], command: str, picture: str) -> str:
    """The study as a Markdown page: what was done, the table, how to read it.

    Args:
        command: that ran it.
        picture: file name of the scatter plots.
    """
    settings, spread = summary['study']['settings'], summary['accuracy']
    versions = summary['study']['versions']
    lines = [
        '# Do the measures predict trained accuracy?',
        '',
        f'{len(summary["records"])} seed architectures ({settings["strata"]} strata of parameter count, '
        f'equally many of each), each measured on {settings["repeat"]} networks without training and '
        f'trained for {settings["epochs"]} epochs on {settings["data"]} at {settings["img_size"]} pixels '
        f'by the same recipe, seed {settings["seed"]}.',
        '',
        f'    {command}',
        '',
        f'Top-1 of the last epoch on the validation set: {spread["min"]:.2f} to {spread["max"]:.2f} %, '
        f'median {spread["median"]:.2f} %, {spread["distinct"]} distinct values. Training one '
        f'architecture took {spread["training_seconds"]:.0f} s (median; {settings["device"]}, '
        f'{settings["threads"]} thread(s) a process, torch {versions["torch"]}).',
        '',
    ]
    header, rows = _cells(summary)
    lines += [
        '| ' + ' | '.join(header) + ' |',
        '|' + '|'.join(' --- ' if i < 2 else ' ---: ' for i in range(len(header))) + '|',
        *('| ' + ' | '.join(row) + ' |' for row in rows),
        '',
        *_notes(summary),
        '',
        f'![Accuracy against every measure]({picture})',
    ]
    return '\n'.join(lines) + '\n'


def _notes(summary: Mapping[str, Any]) -> list[str]:
    notes = [
        'tau: Kendall tau-b between the measure and top-1, with its bootstrap '
        f'{summary["confidence"]:.0%} interval ({summary["resamples"]:,} resamples of the architectures) '
        'and its p-value. Positive means that the measure predicts: where lower is better, the measure '
        'is negated first.',
        'within strata: tau over pairs of similar size only, what is left when size is held; p by '
        'permutation within the strata.',
        'tau (loss): tau against the cross-entropy on the validation set, lower being better; it has '
        'no ties, which top-1 on few images has.',
        'published: of the As-ViT paper, on other data and at another budget.',
    ]
    for measure in summary['measures']:
        if bad := measure['left_out']:
            notes.append(
                f'{measure["title"]}: {len(bad)} architecture(s) without a score are left out '
                f'({bad[0]["arch"]}: {bad[0]["reason"]}).'
            )
    return [f'- {note}' for note in notes]


def _correlation(
    name: str, target: str, records: Sequence[Mapping[str, Any]], seed: int
) -> dict[str, Any]:
    used = [
        (record['measures'][name]['value'], record['trained'][target], record['stratum'])
        for record in records
        if record['measures'][name]['value'] is not None and record['trained'][target] is not None
    ]
    values, reached, strata = zip(*used, strict=True) if used else ((), (), ())
    found = correlate(
        values,
        [TARGETS[target] * value for value in reached],
        strata,
        higher_is_better=MEASURES[name].higher_is_better,
        seed=seed,
    )
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in asdict(found).items()
    }


def _spread(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    top1 = [record['trained']['top1'] for record in records]
    return {
        'min': min(top1),
        'median': float(np.median(top1)),
        'max': max(top1),
        'distinct': len(set(top1)),
        'training_seconds': float(np.median([r['seconds']['training'] for r in records])),
    }


def _cells(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    header = ['measure', 'better', 'tau', '95 % interval', 'p', 'within strata (p)', 'tau (loss)']
    header += ['n', 's a network', 'published']
    rows = []
    for measure in summary['measures']:
        found = measure['top1']
        interval = (
            f'{_tau(found["low"])} to {_tau(found["high"])}' if found['low'] is not None else '-'
        )
        within = f'{_tau(found["tau_within"])} ({_p(found["p_within"])})'
        rows.append(
            [
                measure['title'],
                'higher' if measure['higher_is_better'] else 'lower',
                _tau(found['tau']),
                interval,
                _p(found['p']),
                within,
                _tau(measure['val_loss']['tau']),
                str(found['n']),
                f'{measure["seconds_a_network"]:.3f}',
                _tau(measure['published_tau']),
            ]
        )
    return header, rows


def _tau(value: float | None) -> str:
    return '-' if value is None else f'{value:+.2f}'


def _p(value: float | None) -> str:
    return '-' if value is None else '<0.001' if value < 0.001 else f'{value:.3f}'
