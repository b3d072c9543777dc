"""What is to be reached on an H100, and whether a report shows it."""

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

SWIN = {'small': 'swin_tiny', 'base': 'swin_small', 'large': 'swin_base'}
VIT = {'small': 'vit_small', 'large': 'vit_base'}


def aims(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Each aim with ``wanted``, ``found`` and ``reached``; the last two are None where a row is missing."""
    found: list[dict[str, Any]] = []

    def add(aim: str, wanted: float, value: float | None, most: bool = False) -> None:
        reached = None if value is None else value <= wanted if most else value >= wanted
        found.append({'aim': aim, 'wanted': wanted, 'found': value, 'reached': reached})

    inference = _rates(rows, 'inference, bfloat16 autocast, compiled, batch 256')
    for others, wanted in ((SWIN, 1.3), (VIT, 0.85)):
        for ours, other in others.items():
            aim = f'compiled inference, batch 256: TMAC/s of {ours} / {other}'
            add(aim, wanted, _ratio(inference, ours, other))
    for table in (
        'compiled, batch 256',
        'eager, batch 256',
        'compiled, batch 64',
        'eager, batch 64',
    ):
        training = _rates(rows, f'training, bfloat16 autocast, {table}')
        for ours, other in SWIN.items():
            value = _ratio(training, ours, other)
            if value is not None:
                add(f'training step, {table}: TMAC/s of {ours} / {other}', 1.2, value)
    runs = [row['whole_run_s'] for row in rows if 'whole_run_s' in row]
    add('published search and scaling, s', 600, sum(runs) if len(runs) == 2 else None, most=True)
    for row in rows:
        if 'seen_percent_80-140' in row:
            aim = f'progressive tokenization on the clock, %: {row["name"]}'
            add(aim, 90, row['seen_percent_80-140'])
    return found


def _rates(rows: Sequence[Row], table: str) -> dict[str, float]:
    """TMAC/s by model in one table."""
    return {row['name']: row['TMAC_per_s'] for row in rows if row['table'] == table and 'ms' in row}


def _ratio(rates: Mapping[str, float], ours: str, other: str) -> float | None:
    """Our rate over that of timm's model whose name begins with ``other``."""
    theirs = [rate for name, rate in rates.items() if name.startswith(f'timm:{other}')]
    return rates[ours] / theirs[0] if ours in rates and theirs else None
