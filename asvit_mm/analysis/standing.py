"""Where architectures stand among random ones: percentiles of L^E, of kappa and of their rank sum.

L^E, the expected length distortion, is better when larger; kappa, the NTK condition number, when smaller.
``None`` stands for the value of a network that could not be measured: it is worse than every value, and
equal to another None.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from ..arch import SEARCH_SPACE, Architecture
from ..data.images import Seed
from ..errors import InputError
from ..measures import Score
from .choices import shares_of_choices
from .repeats import Values, repeat_table
from .sampling import MAX_NUM

Value = float | None
# L^E and kappa.
Pair = tuple[Value, Value]
MEASURED = {'length_distortion': True, 'ntk_condition_number': False}  # whether higher is better
_TITLES = {'length_distortion': 'L^E', 'ntk_condition_number': 'kappa'}


def draw_seeds(num: int, seed: Seed) -> list[Architecture]:
    """``num`` distinct seeds of the search space, drawn uniformly.

    Args:
        seed: decides the draw; a larger draw of the same ``seed`` begins with these.

    Raises:
        InputError: more than 10,000 are asked for.
    """
    if num > MAX_NUM:
        raise InputError(f'{num} architectures are too many for a study: give at most {MAX_NUM}')
    rng = np.random.default_rng(seed)
    drawn: dict[Architecture, None] = {}
    while len(drawn) < num:
        drawn[SEARCH_SPACE.sample(rng)] = None
    return list(drawn)


def percentile(value: Value, others: Sequence[Value], *, higher_is_better: bool) -> float:
    """Per cent of the others that ``value`` is better than, those equal to it counted half.

    100 is better than all of them, 0 worse than all, 50 equal to all.
    """
    signed = [_signed(v, higher_is_better) for v in (value, *others)]
    return float(stats.percentileofscore(signed[1:], signed[0], kind='mean'))


def percentiles(pair: Pair, others: Sequence[Pair]) -> tuple[float, float]:
    """:func:`percentile` of L^E and of kappa."""
    length, kappa = (
        percentile(value, [other[i] for other in others], higher_is_better=higher)
        for i, (value, higher) in enumerate(zip(pair, MEASURED.values(), strict=True))
    )
    return length, kappa


def rank_sum_percentile(pair: Pair, others: Sequence[Pair]) -> float:
    """:func:`percentile` of the sum of the ranks by L^E and by kappa.

    ``pair`` and the others are ranked together, equal values sharing the mean of their ranks.
    """
    sums = np.zeros(1 + len(others))
    for i, higher in enumerate(MEASURED.values()):
        signed = [_signed(one[i], higher) for one in (pair, *others)]
        sums += stats.rankdata(signed)
    return percentile(float(sums[0]), sums[1:].tolist(), higher_is_better=True)


def mean_of(networks: Sequence[Value]) -> Value:
    """The mean over an architecture's networks, as a search takes it; None as soon as one is."""
    if None in networks:
        return None
    return Score.mean([Score(value) for value in networks if value is not None]).value


def summarise_standing(
    study: Mapping[str, Any], records: Sequence[Mapping[str, Any]], named: Mapping[str, str]
) -> dict[str, Any]:
    """Where the named architectures stand among the study's random ones, and what repeats buy.

    Args:
        study: settings, versions, the ``run_seed`` of images, curves and weights, and architectures, of
            which the first ``num`` are the random ones.
        records: of all architectures: for each measure the values of its networks, and ``seconds``.
        named: name to architecture string.

    Returns:
        Plain data. ``named``: for each its values, their percentiles among the random architectures other
        than itself, and that of the rank sum; ``random``: the quartiles; ``repeats``: see
        :func:`~asvit_mm.analysis.repeats.repeat_table`, over the random ones; ``choices``: see
        :func:`~asvit_mm.analysis.choices.shares_of_choices`, likewise; ``seconds_a_network``: the mean over
        all networks; ``study`` and ``records`` as they were given.
    """
    num = study['settings']['num']
    pairs = {record['arch']: pair_of(record) for record in records}
    random = [record['arch'] for record in records[:num]]
    standings = []
    for name, arch in named.items():
        others = [pairs[other] for other in random if other != arch]
        found = percentiles(pairs[arch], others)
        standings.append(
            {
                'name': name,
                'arch': arch,
                **{
                    measure: {'value': value, 'percentile': share}
                    for measure, value, share in zip(MEASURED, pairs[arch], found, strict=True)
                },
                'rank_sum_percentile': rank_sum_percentile(pairs[arch], others),
            }
        )
    seconds = [taken for record in records for taken in record['seconds']]
    return {
        'task': 'standing',
        'study': dict(study),
        'named': standings,
        'random': {
            name: _quartiles([pairs[arch][i] for arch in random]) for i, name in enumerate(MEASURED)
        },
        'repeats': {
            name: repeat_table(_networks(records[:num], name), study['settings']['seed'])
            for name in MEASURED
        },
        'choices': {
            name: shares_of_choices(
                [Architecture.parse(arch) for arch in random], [pairs[arch][i] for arch in random]
            )
            for i, name in enumerate(MEASURED)
        },
        'seconds_a_network': float(np.mean(seconds)),
        'records': [dict(record) for record in records],
    }


def pair_of(record: Mapping[str, Any]) -> Pair:
    """L^E and kappa of an architecture: the means over its networks."""
    length, kappa = (mean_of(record[name]) for name in MEASURED)
    return length, kappa


def standing_report(summary: Mapping[str, Any], command: str) -> str:
    """The study as a Markdown page: what was done, both tables, how to read them."""
    settings = summary['study']['settings']
    repeat, seconds = settings['repeat'], summary['seconds_a_network']
    lines = [
        '# Where seeds stand among random ones',
        '',
        f'{settings["num"]} distinct seeds drawn uniformly from the search space, and '
        f'{len(summary["named"])} named, each measured on {repeat} freshly initialised network(s): '
        f'{settings["data"]}, {settings["img_size"]} pixels, batches of {settings["batch_size"]}, seed '
        f'{settings["seed"]}, {settings["device"]}, {settings["threads"]} thread(s) a process.',
        '',
        f'Images, curves and weights are those of run seed {summary["study"]["run_seed"]:,}: what a search '
        'of another seed found is judged by draws that it has not seen.',
        '',
        f'    {command}',
        '',
        '| architecture | | L^E | percentile | kappa | percentile | percentile of the rank sum |',
        '| --- | --- | ---: | ---: | ---: | ---: | ---: |',
    ]
    for one in summary['named']:
        cells = [one['name'].replace('|', '\\|'), '`' + one['arch'].replace('|', '\\|') + '`']
        for name in MEASURED:
            cells += [_figure(one[name]['value']), f'{one[name]["percentile"]:.1f}']
        cells.append(f'{one["rank_sum_percentile"]:.1f}')
        lines.append('| ' + ' | '.join(cells) + ' |')
    for title, key in (('median', 'median'), ('quartiles', 'quartiles')):
        cells = [f'random seeds, {title}', '']
        for name in MEASURED:
            cells += [_range(summary['random'][name][key]), '']
        lines.append('| ' + ' | '.join([*cells, '']) + ' |')
    lines += [
        '',
        '- percentile: per cent of the random seeds that the architecture is better than, those equal to it '
        'counted half; itself, where it is among them, left out. 100 is better than all. Higher L^E is '
        'better, lower kappa is. A value is the mean over the networks; without one (-), an '
        'architecture is worse than all that have one.',
        '- rank sum: rank by L^E plus rank by kappa, the architecture and the random seeds ranked '
        'together, equal values sharing the mean rank.',
        '',
        '![L^E against kappa](scatter.png)',
        '',
        '## Which choices decide',
        '',
        *_choice_lines(summary),
        '',
        '## What repeats buy',
        '',
        f'A network takes {seconds:.3g} s (mean, both measures), so {repeat} of them take '
        f'{repeat * seconds:.3g} s.',
        '',
    ]
    lines += _repeat_lines(summary) if repeat > 1 else ['One network a seed says nothing about it.']
    return '\n'.join(lines) + '\n'


def _choice_lines(summary: Mapping[str, Any]) -> list[str]:
    widest = max(map(len, SEARCH_SPACE.choices.values()))
    lines = [
        '| measure | ' + ' | '.join(SEARCH_SPACE.choices) + ' | by chance |',
        '| --- |' + ' ---: |' * (len(SEARCH_SPACE.choices) + 1),
    ]
    for name, shares in summary['choices'].items():
        measured = summary['random'][name]['measured']
        chance = (widest - 1) / (measured - 1) if measured > widest else None
        cells = map(_share, (*shares.values(), chance))
        lines.append(f'| {_TITLES[name]} | ' + ' | '.join(cells) + ' |')
    return [
        *lines,
        '',
        '- K: kernels, S: splits, E: expansions of each stage, H: heads. Share of the variance of the '
        "logarithm, over the random seeds that have a value, that goes along with the choice's value (eta "
        f'squared, one choice at a time). By chance: what a choice of {widest} values has that decides '
        'nothing; fewer values have less.',
    ]


def _repeat_lines(summary: Mapping[str, Any]) -> list[str]:
    lines = [
        '| measure | networks averaged | tau with the mean of the rest | rho | splits '
        '| tau with as many others | rho | splits | reliability | seconds |',
        '| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |',
    ]
    for name, table in summary['repeats'].items():
        title = _TITLES[name]
        for row in table['rows']:
            cells = [title, str(row['networks'])]
            for key in ('rest', 'as_many'):
                cells += _agreement(row[key])
            cells += [
                _figure(row['reliability']),
                f'{row["networks"] * summary["seconds_a_network"]:.3g}',
            ]
            lines.append('| ' + ' | '.join(cells) + ' |')
    lines += ['']
    for name, table in summary['repeats'].items():
        title = _TITLES[name]
        lines.append(
            f'- {title}: variance between architectures over variance between networks of one '
            f'{_figure(table["variance_ratio"])} (standard deviations of the logarithm '
            f'{_figure(table["between_std"])} and {_figure(table["within_std"])}; '
            f'{table["architectures"]} architectures, {table["left_out"]} without all values left out).'
        )
    lines += [
        '- tau, rho: Kendall tau-b and Spearman correlation, over the random seeds, between the mean of '
        'some networks and the mean of other ones; mean ± standard deviation over the splits, '
        'which share networks, so that the deviation is no standard error. r against the rest and the rest '
        'against r are the same splits.',
        '- reliability: expected correlation of the mean of that many networks with the mean of as many '
        'others, from the variances of the logarithms (two-way, what a batch and a curve do to all '
        'architectures alike left aside: the ICC(3,k) of Shrout and Fleiss 1979).',
        '',
        '![Agreement of ranks against the number of networks](repeats.png)',
    ]
    return lines


def _networks(records: Sequence[Mapping[str, Any]], name: str) -> Values:
    """(architectures, networks), NaN where a network has no value."""
    return np.array(
        [[math.nan if v is None else v for v in record[name]] for record in records], dtype=float
    )


def _quartiles(values: Sequence[Value]) -> dict[str, Any]:
    there = [value for value in values if value is not None]
    if not there:
        return {'measured': 0, 'median': None, 'quartiles': None}
    low, median, high = np.percentile(there, [25, 50, 75]).tolist()
    return {'measured': len(there), 'median': median, 'quartiles': [low, high]}


def _signed(value: Value, higher_is_better: bool) -> float:
    if value is None:
        return -math.inf
    return value if higher_is_better else -value


def _figure(value: Value) -> str:
    return '-' if value is None else f'{value:.4g}'


def _share(value: Value) -> str:
    return '-' if value is None else f'{value:.1%}'


def _range(value: float | Sequence[float] | None) -> str:
    return ' to '.join(map(_figure, value)) if isinstance(value, Sequence) else _figure(value)


def _agreement(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return ['-', '-', '-']
    both = [
        '-' if found[name] is None else f'{found[name]:.3f} ± {found[f"{name}_std"]:.3f}'
        for name in ('tau', 'rho')
    ]
    return [*both, str(found['splits'])]
