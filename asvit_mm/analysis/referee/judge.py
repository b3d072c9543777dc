"""How well each measure predicts: tau-b with intervals, at equal size, and against the best baseline.

A bootstrap resample of the networks is a vector of counts w, with which tau-b is a ratio of quadratic forms:
sum_ij w_i w_j s_ij t_ij over the root of sum w_i w_j s_ij^2 times sum w_i w_j t_ij^2, where s and t are the
signs of the differences. That is exactly tau-b of the resample, whose copies of one network are ties.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from ...measures import MEASURES
from ...report.figure import BLUE, GREY, ORANGE, figure
from ..bench import Bench
from ..statistics import CONFIDENCE, RESAMPLES, kendall_tau, repeat_noise
from ..study import Record, StudyFolder
from ..tables import markdown_table
from .tables import Entry, Ours

BASELINES = ('params', 'flops', 'depth', 'width', 'hidden_units', 'stride')
ON_NOISE = 'ntk_condition_number_on_noise'
SHORT = 'short_'
TITLES = {
    'depth': 'depth',
    'width': 'width',
    'hidden_units': 'hidden units',
    'stride': 'base stride',
    'length_distortion_wide': 'length distortion, radius √D',
    'extrinsic_curvature_wide': 'extrinsic curvature, radius √D',
    'gauss_map_length_wide': 'Gauss-map length, radius √D',
    ON_NOISE: 'NTK condition number, on noise',
    'reward': 'rank sum of L^E and kappa',
    'combination': 'all untrained, ridge regression',
    'baselines': 'baselines, ridge regression',
}
# Of parameters and multiply-adds: what equal cost is, by the name of the column.
COSTS = {
    'equal_size': ('params',),
    'equal_flops': ('flops',),
    'equal_cost': ('params', 'flops'),
}
MIN_PAIRS = 30  # of networks in equal cells: fewer say nothing
RIDGE = 1.0  # penalty, of standardised logarithms

PAGE = """# {networks} networks judged by {target}

    {command}

Top-1 of {target} as the table has it, {networks} of its networks, {order}; \
{img_size} x {img_size} pixels, batches of {batch_size}, images: {data}. Kendall's tau-b in the published \
direction of each measure, in brackets the {confidence:.0%} interval ({resamples} bootstrap resamples of \
the networks). Networks at even places are the tuning half ({tuning}), those at odd places the held-out half \
({held_out}).

{table}

{columns}

Of all measures and counts without training, the best at equal cost on the tuning half is {chosen}: \
{chosen_tuning} there, and {chosen_held_out} on the held-out half; minus the rank sum there: \
{chosen_to_reward}.

The two regressions are fitted on the tuning half, so only their held-out columns are a test. Their paired \
difference in tau on the held-out half, all minus baselines: {gain}.
{ours}
![tau of every measure](tau.png)
"""

# What columns are, by title; those of empty columns are left out.
COLUMNS = {
    'equal size': 'of the residuals of measure and accuracy after a line in log parameters; equal '
    'multiply-adds: after one in their logarithm; equal cost: after both (measures in logarithms where '
    'positive).',
    'in cells': 'over pairs of networks of equal width and depth.',
    'to best baseline': 'tau minus that of the best baseline of the tuning half ({best}), paired, on the '
    'held-out half.',
    'to rank sum': 'tau at equal cost minus that of the rank sum of length distortion and kappa, which is '
    'what the published search and scaling go by, paired, on the held-out half.',
    'reliability': "expected correlation of one network's value with that of another of the same "
    'architecture, over the first {repeated} networks with {repeat} fresh ones each{of_losses}.',
    'on noise': 'tau between the values on images and on noise, of the same networks.',
    'seconds': 'per network, one thread, median.',
}

OURS = """
Loss after k steps: mean loss of steps k/2 to k of the table's own trainings, at the learning rates of the \
table's recipe (warm-up over the first tenth of {steps} steps), smaller is better; seconds are the share of \
the training's. It is the same run, of the same seed, whose accuracy it is to predict. Across seeds \
({twice} networks have two): tau of the second seed's loss with the first seed's accuracy.

{trained} of {planned} networks of the budget are trained so far. Accuracies: {least:.1f} to {most:.1f} %; \
noise, the standard deviation between two seeds: {noise}.

| base stride | networks | mean top-1 | standard deviation | best |
| ---: | ---: | ---: | ---: | ---: |
{strides}

Mean of the finest minus that of the coarsest stride: {stride_gain} points.
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


def residuals(values: np.ndarray, *sizes: np.ndarray) -> np.ndarray:
    """What is left of the values, in logarithms where all are positive, after a line in the log sizes."""
    values = np.log(values) if (values > 0).all() else values
    logs = np.log(np.stack(sizes, 1))
    design = np.column_stack([np.ones(len(values)), logs - logs.mean(0)])
    return np.asarray(values - design @ np.linalg.lstsq(design, values, rcond=None)[0])


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


def judge(
    records: Sequence[Record],
    accuracies: Sequence[float],
    seed: int = 0,
    trained: Sequence[Ours] = (),
) -> Record:
    """All figures of a table; plain data.

    Args:
        records: of the study, in its order.
        accuracies: of the same networks.
        trained: of the same networks of our own table, for the losses of short training.

    Returns:
        ``rows``: of each baseline and measure ``name``, ``title``, tau with its interval for ``all``, both
        halves, ``equal_size``, ``equal_flops`` and ``equal_cost`` (and of their halves), ``cells``,
        ``to_baseline`` and ``to_reward``, and ``reliability``, ``noise``, ``across_seeds`` and ``seconds``;
        ``halves``: their networks; ``best``: the best baseline of the tuning half; ``chosen``: the untrained
        measure that is best at equal cost there; ``gain``: of the combination.
    """
    target = np.array(accuracies)
    columns, signs = _columns(records)
    place = np.arange(len(target))
    odd = np.array([record['place'] % 2 for record in records])
    halves = {'tuning': place[odd == 0], 'held_out': place[odd == 1]}
    of = {'all': place, **halves}
    drawn = {part: Resamples(len(places), seed) for part, places in of.items()}
    sizes = columns['params']
    kinds: dict[Any, int] = {}
    keys = zip(columns.get('width', sizes), columns.get('depth', sizes), strict=True)
    cells = np.array([kinds.setdefault(key, len(kinds)) for key in keys])

    tuning, measured = halves['tuning'], list(columns)
    baselines = [name for name in BASELINES if name in columns]
    everything = np.stack([columns[name] for name in measured], 1)
    columns['baselines'] = ridge(np.stack([columns[n] for n in baselines], 1), target, tuning)
    columns['combination'] = ridge(everything, target, tuning)
    if {'length_distortion', 'ntk_condition_number'} <= set(columns):
        length, kappa = columns['length_distortion'], columns['ntk_condition_number']
        columns['reward'] = rankdata(length) + rankdata(-kappa)
    short = _short_training(trained)
    for name, figures in short.items():
        columns[name], signs[name] = figures['values'], -1

    def taus(name: str, part: str, cost: str | None = None) -> np.ndarray:
        values, sign = columns[name], signs.get(name, 1)
        rest = target
        if cost:
            same = [columns[key] for key in COSTS[cost] if key in columns]
            if not same or name in COSTS[cost]:  # whose residuals are rounding errors
                return np.full(RESAMPLES + 1, np.nan)
            values, rest = residuals(values, *same), residuals(target, *same)
        return drawn[part].taus(sign * values[of[part]], rest[of[part]])

    def top(names: Sequence[str], cost: str | None = None) -> str:
        return max(names, key=lambda n: np.nan_to_num(taus(n, 'tuning', cost)[0], nan=-1))

    best = top(baselines)
    chosen = top([*measured, 'reward'] if 'reward' in columns else measured, 'equal_cost')
    rows = []
    for name in columns:
        row: Record = {'name': name, 'title': _title(name)}
        for part in of:
            row[part] = interval(taus(name, part))
            for cost in COSTS:
                key = cost if part == 'all' else f'{cost}_{part}'
                row[key] = interval(taus(name, part, cost))
        sign = signs.get(name, 1)
        row['cells'] = interval(drawn['all'].taus(sign * columns[name], target, cells))
        row['to_baseline'] = interval(taus(name, 'held_out') - taus(best, 'held_out'))
        row['to_reward'] = interval(np.array([np.nan]))
        if 'reward' in columns:
            reward = taus('reward', 'held_out', 'equal_cost')
            row['to_reward'] = interval(taus(name, 'held_out', 'equal_cost') - reward)
        row |= _of_networks(name, records, seed) | short.get(name, {'across_seeds': None})
        row.pop('values', None)
        rows.append(row)
    gain = interval(taus('combination', 'held_out') - taus('baselines', 'held_out'))
    counts = {half: len(places) for half, places in halves.items()}
    return {'best': best, 'chosen': chosen, 'gain': gain, 'halves': counts, 'rows': rows}


def report(
    folder: StudyFolder, target: str, records: Sequence[Record], entries: Sequence[Entry]
) -> Record:
    """Judge, draw and write the report; its content.

    Args:
        entries: of the table, those of the records.
    """
    accuracies = [entry.accuracies[target] for entry in entries]
    trained = [entry.ours for entry in entries if entry.ours is not None]
    found = judge(records, accuracies, folder.settings.seed, trained)
    plot(found['rows'], folder.path / 'tau.png')
    columns = {
        'tau': 'all',
        'held out': 'held_out',
        'equal size': 'equal_size',
        'equal multiply-adds': 'equal_flops',
        'equal cost': 'equal_cost',
        'equal cost, tuning': 'equal_cost_tuning',
        'equal cost, held out': 'equal_cost_held_out',
        'in cells': 'cells',
        'to best baseline': 'to_baseline',
        'to rank sum': 'to_reward',
        'reliability': 'reliability',
        'on noise': 'noise',
        'across seeds': 'across_seeds',
        'seconds': 'seconds',
    }
    table = [
        {'measure': row['title']} | {title: _show(row[key]) for title, key in columns.items()}
        for row in found['rows']
    ]
    empty = [title for title in columns if all(row[title] == '-' for row in table)]
    rows = {row['name']: row for row in found['rows']}
    chosen = rows[found['chosen']]
    about = {}
    if trained:
        order = 'in the order in which they were drawn'
        about['base_strides'] = trained[0].bench.by_stride(target)
        ours = OURS.format_map(_words_of_ours(trained[0].bench, target))
    else:
        order, ours = f'in an order drawn with seed {folder.settings.seed}', ''
    settings: Any = folder.settings
    in_columns = {
        'best': _title(found['best']),
        'repeated': sum(record['place'] < settings.repeated for record in records),
        'repeat': settings.repeat,
        'of_losses': ' (of losses: over those with two seeds)' if trained else '',
    }
    words = {
        'table': markdown_table(
            [{k: v for k, v in row.items() if k not in empty} for row in table]
        ),
        'target': target,
        'order': order,
        'networks': len(records),
        'columns': '\n'.join(
            f'- {title}: {text.format_map(in_columns)}'
            for title, text in COLUMNS.items()
            if title not in empty
        ),
        'chosen': _title(found['chosen']),
        'chosen_tuning': _show(chosen['equal_cost_tuning']),
        'chosen_held_out': _show(chosen['equal_cost_held_out']),
        'chosen_to_reward': _show(chosen['to_reward']),
        'gain': _show(found['gain']),
        **found['halves'],
        'confidence': CONFIDENCE,
        'resamples': RESAMPLES,
        'ours': ours,
    }
    return folder.write_report(PAGE, words, target=target, **found, **about, records=list(records))


def plot(rows: Sequence[Record], path: Any) -> None:
    """tau with its interval of every baseline and measure: all networks, and at equal cost."""
    shown = [row for row in rows if row['name'] not in ('baselines', 'combination')]
    with figure(path, 1, 1, (7.2, 0.34 * len(shown) + 1.4)) as axes:
        ax = axes[0, 0]
        for key, colour, shift in (('all', BLUE, -0.13), ('equal_cost', ORANGE, 0.13)):
            label: str | None = key.replace('_', ' ')
            for i, row in enumerate(shown):
                if (one := row[key])['tau'] is not None:
                    ax.plot([one['low'], one['high']], [i + shift] * 2, color=colour, lw=1.6)
                    ax.plot(one['tau'], i + shift, 'o', color=colour, ms=5, label=label)
                    label = None
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
    signs = {ON_NOISE: -1}
    for name in records[0]['networks'][0]['values']:
        if name in MEASURES:
            signs[name] = 1 if MEASURES[name].higher_is_better else -1
        sign = signs.get(name, 1)
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


def _short_training(trained: Sequence[Ours]) -> dict[str, Record]:
    """Of the losses of short training by name: ``values`` of the first seeds, and figures of the row."""
    if not trained:
        return {}
    found = {}
    twice = [one.runs for one in trained if len(one.runs) > 1]
    for k in trained[0].runs[0].short_loss:
        losses = np.array([[run.short_loss[k] for run in runs[:2]] for runs in twice])
        reliability = repeat_noise(losses.reshape(-1, 2))['reliability']
        across = dict.fromkeys(('tau', 'low', 'high'))
        if len(twice) > 2:
            top1 = np.array([runs[0].top1 for runs in twice])
            across = interval(Resamples(len(twice), 0).taus(-losses[:, 1], top1))
        found[f'{SHORT}{k}'] = {
            'values': np.array([one.runs[0].short_loss[k] for one in trained]),
            'reliability': reliability[0] if reliability else None,
            'across_seeds': across,
            'seconds': statistics.median(
                one.runs[0].seconds * k / one.trained.steps for one in trained
            ),
        }
    return found


def _words_of_ours(bench: Bench, budget: str) -> dict[str, Any]:
    """Words of the part of the page that our own table adds."""
    networks, strides = bench.of(budget), bench.by_stride(budget)
    rows = []
    for stride, one in strides['strides'].items():
        std = '-' if one['std'] is None else f'{one["std"]:.1f}'
        cells = (stride, one['networks'], f'{one["mean"]:.1f}', std, f'{one["best"]:.1f}')
        rows.append(f'| {" | ".join(map(str, cells))} |')
    noise, top1 = bench.noise(budget), [network.top1 for network in networks]
    return {
        'trained': len(networks),
        'planned': bench.budgets[budget].limits.networks,
        'steps': bench.budgets[budget].steps,
        'twice': sum(len(network.runs) > 1 for network in networks),
        'least': min(top1),
        'most': max(top1),
        'noise': 'not known, no network has two' if noise is None else f'{noise:.2f} points',
        'strides': '\n'.join(rows),
        'stride_gain': _show(
            {'tau': strides['gain'], 'low': strides['low'], 'high': strides['high']}
        ),
    }


def _title(name: str) -> str:
    if name.startswith(SHORT):
        return f'loss after {name.removeprefix(SHORT)} steps'
    return TITLES.get(name) or MEASURES[name].title


def _show(one: Mapping[str, float | None] | float | None) -> str:
    if isinstance(one, float):
        return f'{one:.2f}'
    if one is None or one['tau'] is None:
        return '-'
    return f'{one["tau"]:+.2f} [{one["low"]:+.2f}, {one["high"]:+.2f}]'
