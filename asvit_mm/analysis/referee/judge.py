"""How well each measure predicts: tau-b with intervals, at equal size, and against the best baseline.

A bootstrap resample of the networks is a vector of counts w, with which tau-b is a ratio of quadratic forms:
sum_ij w_i w_j s_ij t_ij over the root of sum w_i w_j s_ij^2 times sum w_i w_j t_ij^2, where s and t are the
signs of the differences. That is exactly tau-b of the resample, whose copies of one network are ties.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...measures import MEASURES
from ...report.figure import BLUE, GREY, ORANGE, figure
from ..statistics import CONFIDENCE, RESAMPLES, kendall_tau, repeat_noise
from ..study import Record, StudyFolder
from ..tables import markdown_table

BASELINES = ('params', 'flops', 'depth', 'width', 'hidden_units')
TITLES = {
    'depth': 'depth',
    'width': 'width',
    'hidden_units': 'hidden units',
    'length_distortion_wide': 'length distortion, radius √D',
    'combination': 'all, ridge regression',
    'baselines': 'baselines, ridge regression',
}
MIN_PAIRS = 30  # of networks in equal cells: fewer say nothing
RIDGE = 1.0  # penalty, of standardised logarithms

PAGE = """# {networks} networks judged by {target}

    {command}

Top-1 of {target} as the table has it, {networks} of its networks in an order drawn with seed {seed}; \
{img_size} x {img_size} pixels, batches of {batch_size}, images: {data}. Kendall's tau-b in the published \
direction of each measure, in brackets the {confidence:.0%} interval ({resamples} bootstrap resamples of \
the networks). \
Networks at even places are the tuning half, those at odd places the held-out half.

{table}

- equal size: of the residuals of measure and accuracy after a line in log parameters (measures in \
logarithms where positive).
- in cells: over pairs of networks of equal width and depth.
- to best baseline: tau minus that of the best baseline of the tuning half ({best}), paired, on the held-out \
half.
- reliability: expected correlation of one network's value with that of another of the same architecture, \
over the first {repeated} networks with {repeat} fresh ones each.
- on noise: tau between the values on images and on noise, of the same networks.
- seconds: per network, one thread, median.

The two regressions are fitted on the tuning half, so only their held-out columns are a test. Their paired \
difference in tau on the held-out half, all minus baselines: {gain}.

![tau of every measure](tau.png)
"""


class Resamples:
    """Kendall's tau-b of many columns against one target, on the same bootstrap resamples.

    Args:
        count: number of networks.
        seed: decides the resamples.
    """

    def __init__(self, count: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES)
        self.weights = np.vstack([np.ones(count), drawn])

    def taus(self, x: np.ndarray, y: np.ndarray, cells: np.ndarray | None = None) -> np.ndarray:
        """tau-b (1 + resamples,) of x and y (networks,), first of all networks, then of each resample.

        Args:
            cells: only pairs of networks of the same cell count, NaN if there are under 30; None: all do.
        """
        s, t = (np.sign(np.subtract.outer(values, values)) for values in (x, y))
        if cells is not None:
            same = np.equal.outer(cells, cells)
            if (same.sum() - len(cells)) // 2 < MIN_PAIRS:
                return np.full(len(self.weights), np.nan)
            s, t = s * same, t * same
        with np.errstate(invalid='ignore', divide='ignore'):
            return self._sum(s * t) / np.sqrt(self._sum(s * s) * self._sum(t * t))

    def _sum(self, pairs: np.ndarray) -> np.ndarray:
        return ((self.weights @ pairs) * self.weights).sum(1)


def interval(values: np.ndarray) -> dict[str, float | None]:
    """Estimate and percentile interval of what :meth:`Resamples.taus` gives, or of a difference of two."""
    if not np.isfinite(values[0]):
        return dict.fromkeys(('tau', 'low', 'high'))
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.nanpercentile(values[1:], [tail, 100 - tail])
    return {'tau': float(values[0]), 'low': float(low), 'high': float(high)}


def residuals(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """What is left of the values, in logarithms where all are positive, after a line in log size."""
    values = np.log(values) if (values > 0).all() else values
    line = np.polynomial.polynomial.polyfit(np.log(sizes), values, 1)
    return values - np.polynomial.polynomial.polyval(np.log(sizes), line)


def ridge(columns: np.ndarray, target: np.ndarray, fit: np.ndarray) -> np.ndarray:
    """Predictions (networks,) of a ridge regression fitted where ``fit`` holds.

    Args:
        columns: (networks, columns); in logarithms where all of a column are positive, standardised.
    """
    logs = [np.log(c) if (c > 0).all() else c for c in columns.T if np.ptp(c[fit]) > 0]
    table = np.stack(logs, 1)
    table = (table - table[fit].mean(0)) / table[fit].std(0)
    known = table[fit]
    penalty = RIDGE * np.eye(known.shape[1])
    weights = np.linalg.solve(
        known.T @ known + penalty, known.T @ (target[fit] - target[fit].mean())
    )
    return table @ weights


def judge(records: Sequence[Record], accuracies: Sequence[float], seed: int = 0) -> Record:
    """All figures of a table; plain data.

    Args:
        records: of the study, in its order.
        accuracies: of the same networks.

    Returns:
        ``rows``: of each baseline and measure ``name``, ``title``, tau with its interval for ``all``, both
        halves, ``equal_size`` (and of its halves), ``cells`` and ``to_baseline``, and ``reliability``,
        ``noise`` and ``seconds``; ``best``: the best baseline of the tuning half; ``gain``: of the
        combination.
    """
    target = np.array(accuracies)
    columns, signs = _columns(records)
    place = np.arange(len(target))
    halves = {'tuning': place[::2], 'held_out': place[1::2]}
    drawn = {'all': Resamples(len(target), seed)}
    drawn |= {half: Resamples(len(of), seed) for half, of in halves.items()}
    of = {'all': place, **halves}
    sizes = columns['params']
    left = residuals(target, sizes)
    kinds: dict[Any, int] = {}
    keys = zip(columns.get('width', sizes), columns.get('depth', sizes), strict=True)
    cells = np.array([kinds.setdefault(key, len(kinds)) for key in keys])

    tuning = halves['tuning']
    costs = np.stack([columns[name] for name in BASELINES if name in columns], 1)
    columns['baselines'] = ridge(costs, target, tuning)
    everything = np.stack([columns[n] for n in columns if n != 'baselines'], 1)
    columns['combination'] = ridge(everything, target, tuning)

    def taus(name: str, part: str) -> np.ndarray:
        return drawn[part].taus(signs.get(name, 1) * columns[name][of[part]], target[of[part]])

    known = [name for name in BASELINES if name in columns]
    best = max(known, key=lambda name: np.nan_to_num(taus(name, 'tuning')[0], nan=-1))
    rows = []
    for name in columns:
        sign = signs.get(name, 1)
        rest = sign * residuals(columns[name], sizes)
        row: Record = {'name': name, 'title': _title(name)}
        for part in of:
            row[part] = interval(taus(name, part))
            key = 'equal_size' if part == 'all' else f'equal_size_{part}'
            row[key] = interval(drawn[part].taus(rest[of[part]], left[of[part]]))
        if name == 'params':  # its residuals are rounding errors
            row |= {key: interval(np.array([np.nan])) for key in row if key.startswith('equal')}
        row['cells'] = interval(drawn['all'].taus(sign * columns[name], target, cells))
        row['to_baseline'] = interval(taus(name, 'held_out') - taus(best, 'held_out'))
        rows.append(row | _of_networks(name, records, seed))
    gain = interval(taus('combination', 'held_out') - taus('baselines', 'held_out'))
    return {'best': best, 'gain': gain, 'rows': rows}


def report(
    folder: StudyFolder, target: str, records: Sequence[Record], accuracies: Sequence[float]
) -> Record:
    """Judge, draw and write the report; its content."""
    found = judge(records, accuracies, folder.settings.seed)
    plot(found['rows'], folder.path / 'tau.png')
    table = [
        {
            'measure': row['title'],
            'tau': _show(row['all']),
            'held out': _show(row['held_out']),
            'equal size': _show(row['equal_size']),
            'held out, equal size': _show(row['equal_size_held_out']),
            'in cells': _show(row['cells']),
            'to best baseline': _show(row['to_baseline']),
            'reliability': _number(row['reliability']),
            'on noise': _number(row['noise']),
            'seconds': _number(row['seconds'], '.2f'),
        }
        for row in found['rows']
    ]
    words = {
        'table': markdown_table(table),
        'target': target,
        'networks': len(records),
        'best': _title(found['best']),
        'gain': _show(found['gain']),
        'confidence': CONFIDENCE,
        'resamples': RESAMPLES,
    }
    return folder.write_report(PAGE, words, target=target, **found, records=list(records))


def plot(rows: Sequence[Record], path: Any) -> None:
    """tau with its interval of every baseline and measure: all networks, and at equal size."""
    shown = [row for row in rows if row['name'] not in ('baselines', 'combination')]
    with figure(path, 1, 1, (7.2, 0.34 * len(shown) + 1.4)) as axes:
        ax = axes[0, 0]
        for key, colour, shift in (('all', BLUE, -0.13), ('equal_size', ORANGE, 0.13)):
            for i, row in enumerate(shown):
                if (one := row[key])['tau'] is not None:
                    ax.plot([one['low'], one['high']], [i + shift] * 2, color=colour, lw=1.6)
                    label = key.replace('_', ' ') if i == 1 else None
                    ax.plot(one['tau'], i + shift, 'o', color=colour, ms=5, label=label)
        ax.axvline(0, color=GREY, lw=1)
        ax.set_yticks(range(len(shown)), [row['title'] for row in shown])
        ax.invert_yaxis()
        ax.set_xlabel(r"Kendall's $\tau_b$ with the accuracy, 95 % interval")
        ax.figure.legend(loc='outside upper right', ncols=2)


def _columns(records: Sequence[Record]) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Values of the first network of each record by name, a missing one as the worst; and directions."""
    columns = {
        name: np.array([record['baselines'][name] for record in records])
        for name in BASELINES
        if all(name in record['baselines'] for record in records)
    }
    signs = {}
    for name in records[0]['networks'][0]['values']:
        sign = signs[name] = 1 if name not in MEASURES or MEASURES[name].higher_is_better else -1
        values = np.array([record['networks'][0]['values'][name] for record in records], float)
        if np.isnan(values).all():
            continue
        values[np.isnan(values)] = (np.nanmin if sign > 0 else np.nanmax)(values)
        columns[name] = values
    return columns, signs


def _of_networks(name: str, records: Sequence[Record], seed: int) -> Record:
    """Reliability, tau between noise and images, and seconds, of a measure; None where there is none."""
    if name not in records[0]['networks'][0]['values']:
        return dict.fromkeys(('reliability', 'noise', 'seconds'))
    networks = [record['networks'] for record in records]
    most = max(map(len, networks))
    repeated = [of for of in networks if len(of) == most]
    values = np.array([[one['values'][name] for one in of] for of in repeated], float)
    reliability = repeat_noise(values)['reliability']
    pairs = [(n['values'][name], n['noise'].get(name)) for of in networks for n in of[:1]]
    both = [pair for pair in pairs if None not in pair]
    noise = None
    if len(both) > 2:
        noise = kendall_tau([v for v, _ in both], [n for _, n in both], seed)['tau']
    return {
        'reliability': reliability[0] if reliability else None,
        'noise': noise,
        'seconds': float(np.median([of[0]['seconds'][name] for of in networks])),
    }


def _title(name: str) -> str:
    return TITLES.get(name) or MEASURES[name].title


def _show(one: Mapping[str, float | None]) -> str:
    if one['tau'] is None:
        return '-'
    return f'{one["tau"]:+.2f} [{one["low"]:+.2f}, {one["high"]:+.2f}]'


def _number(value: float | None, spec: str = '+.2f') -> str:
    return '-' if value is None else format(value, spec)
