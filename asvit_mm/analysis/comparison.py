"""Search methods compared over several seeds, by where what they find stands among random seeds.

Rewards are relative to the run, so the yardstick is outside it: the score of a network is the mean of the
percentiles of its L^E and its kappa among fixed random architectures that were measured alike.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .standing import MEASURED, Pair, mean_of, percentiles

# Shares of the steps at which the best so far is compared.
MARKS = (0.2, 0.5, 1.0)


def score(pair: Pair, others: Sequence[Pair]) -> float:
    """Mean of the percentiles of L^E and of kappa among ``others``: 50 is a random one, 100 the best."""
    return sum(percentiles(pair, others)) / len(MEASURED)


def best_so_far(trace: Sequence[Mapping[str, Any]], others: Sequence[Pair]) -> list[float]:
    """The best score after 1, 2, ... measured architectures; recalled ones are no measurements.

    Args:
        trace: records of a search.
        others: the random architectures, measured with the images and curves of that search.
    """
    scores = [score(fields_pair(record), others) for record in trace if not record['recalled']]
    return np.maximum.accumulate(scores).tolist()


def fields_pair(record: Mapping[str, Any]) -> Pair:
    """L^E and kappa of the fields that :func:`asvit_mm.nas.Measurement.to_record` gives."""
    length, kappa = (record[name] for name in MEASURED)
    return length, kappa


def result_pair(record: Mapping[str, Any], without: int) -> Pair:
    """L^E and kappa of an architecture, the means over the settings of all searches' seeds but one.

    Args:
        record: ``measured``: for each seed, what its images and curves give with fresh weights.
        without: place of the seed that is left out.
    """
    kept = [one for i, one in enumerate(record['measured']) if i != without]
    length, kappa = (mean_of([one[name] for one in kept]) for name in MEASURED)
    return length, kappa


def summarise_comparison(
    study: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    searches: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """How the methods compare; plain data.

    Args:
        study: settings, versions and architectures; the first ``reference`` are the random ones.
        records: of all architectures, the searches' results included: for each of the ``seeds`` what
            its images and curves give, with weights that no search drew.
        searches: ``method``, ``seed``, ``arch`` (the result), ``trace`` and ``seconds`` of each.

    Returns:
        ``marks``: numbers of measured architectures; ``methods``: for each its ``searches`` (the number
        measured, the best score so far at the marks, where it improved, the result and its score) and
        ``mean`` and ``std`` (n - 1 in the denominator) of these over the seeds; ``study`` and ``records``
        as they were given.
    """
    settings = study['settings']
    seeds = search_seeds_of(settings)
    reference = records[: settings['reference']]
    by_arch = {record['arch']: record for record in records}
    marks = sorted({max(1, round(share * settings['steps'])) for share in MARKS})
    methods: dict[str, list[dict[str, Any]]] = {}
    for search in searches:
        place = seeds.index(search['seed'])
        curve = best_so_far(
            search['trace'], [fields_pair(record['measured'][place]) for record in reference]
        )
        others = [
            result_pair(record, place) for record in reference if record['arch'] != search['arch']
        ]
        pair = result_pair(by_arch[search['arch']], place)
        found = percentiles(pair, others)
        methods.setdefault(search['method'], []).append(
            {
                'seed': search['seed'],
                'measured': len(curve),
                'best_at_marks': [at(curve, mark) for mark in marks],
                'improvements': _improvements(curve),
                'arch': search['arch'],
                **{
                    name: {'value': value, 'percentile': share}
                    for name, value, share in zip(MEASURED, pair, found, strict=True)
                },
                'score': score(pair, others),
                'seconds': search['seconds'],
            }
        )
    return {
        'task': 'compare',
        'study': dict(study),
        'marks': marks,
        'methods': [
            {'method': name, 'searches': found, **_over_seeds(found)}
            for name, found in methods.items()
        ],
        'records': [dict(record) for record in records],
    }


def search_seeds_of(settings: Mapping[str, Any]) -> list[int]:
    """The seeds of the searches of each method: from ``seed`` on."""
    return list(range(settings['seed'], settings['seed'] + settings['seeds']))


def at(curve: Sequence[float], measured: int) -> float:
    """The best after that many measurements; a search that made fewer has its last one still."""
    return curve[min(measured, len(curve)) - 1]


def unfold(improvements: Sequence[Sequence[float]], measured: int) -> list[float]:
    """The curve of :func:`best_so_far` from where it improved, up to ``measured``."""
    curve: list[float] = []
    for (start, value), (end, _) in zip(
        improvements, [*improvements[1:], (measured + 1, 0.0)], strict=True
    ):
        curve += [value] * int(end - start)
    return curve


def _improvements(curve: Sequence[float]) -> list[list[float]]:
    return [[i + 1, b] for i, b in enumerate(curve) if i == 0 or b > curve[i - 1]]


def _over_seeds(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    table = np.array(
        [
            [
                one['measured'],
                *one['best_at_marks'],
                one['score'],
                *(one[name]['percentile'] for name in MEASURED),
                one['seconds'],
            ]
            for one in found
        ],
        dtype=float,
    )

    def named(values: list[float]) -> dict[str, Any]:
        measured, *best, total, length, kappa, seconds = values
        return {
            'measured': measured,
            'best_at_marks': best,
            'score': total,
            'length_distortion_percentile': length,
            'ntk_condition_number_percentile': kappa,
            'seconds': seconds,
        }

    return {
        'mean': named(table.mean(0).tolist()),
        'std': named(table.std(0, ddof=1).tolist()),
    }


def comparison_report(summary: Mapping[str, Any], command: str) -> str:
    """The comparison as a Markdown page: what was done, the table, how it was scored."""
    settings, marks = summary['study']['settings'], summary['marks']
    header = ['method', 'measured', *(f'best of {mark}' for mark in marks)]
    header += ['result', 'its L^E', 'its kappa', 'seconds']
    lines = [
        '# Search methods compared',
        '',
        f'{settings["seeds"]} searches of {settings["steps"]} steps by each method, seeds '
        f'{settings["seed"]} to {settings["seed"] + settings["seeds"] - 1}: {settings["data"]}, '
        f'{settings["img_size"]} pixels, batches of {settings["batch_size"]}, {settings["repeat"]} '
        f'network(s) an architecture, {settings["device"]}, {settings["threads"]} thread(s) a process.',
        '',
        f'    {command}',
        '',
        '| ' + ' | '.join(header) + ' |',
        '| --- |' + ' ---: |' * (len(header) - 1),
    ]
    for method in summary['methods']:
        mean, std = method['mean'], method['std']
        cells = [method['method'], f'{mean["measured"]:.0f} ± {std["measured"]:.0f}']
        cells += [
            f'{m:.2f} ± {s:.2f}'
            for m, s in zip(mean['best_at_marks'], std['best_at_marks'], strict=True)
        ]
        cells += [
            f'{mean[name]:.1f} ± {std[name]:.1f}'
            for name in (
                'score',
                'length_distortion_percentile',
                'ntk_condition_number_percentile',
            )
        ]
        cells.append(f'{mean["seconds"]:.0f} ± {std["seconds"]:.0f}')
        lines.append('| ' + ' | '.join(cells) + ' |')
    lines += [
        '',
        'Mean ± standard deviation over the seeds.',
        '',
        f'- Score: the mean of two percentiles, of L^E and of kappa, among {settings["reference"]} distinct '
        'seeds drawn uniformly, the same for all searches; 50 is a random seed, 100 better than '
        'all. Equal values count half. What one batch and one curve do to all networks alike would '
        'move a percentile, so the random seeds are measured with the images and curves of every search '
        'seed, each time with fresh weights that no search drew.',
        '- best of N: the best score among the first N architectures that a search measured, by the values '
        'that it measured (lucky ones included). A recalled architecture costs nothing and is not counted; a '
        'search that measured fewer keeps its last best.',
        '- result: the score of the architecture that the search returned, measured anew: with the '
        'images and curves of all the other seeds, and weights that no search drew; L^E and kappa are '
        f'the means of these {settings["seeds"] - 1} measurements, as are those of the random seeds that '
        'they are ranked among. So no method gains by lucky draws. The two columns after it are its two '
        'percentiles.',
        '- At one seed the first population of the evolution is what random search draws first.',
        '- seconds: of one search.',
        '',
        '![Best score so far, and the scores of the results](comparison.png)',
        '',
        '## Results',
        '',
        '| method | seed | architecture | score | L^E | kappa |',
        '| --- | ---: | --- | ---: | ---: | ---: |',
    ]
    for method in summary['methods']:
        for one in method['searches']:
            arch = one['arch'].replace('|', '\\|')
            values = [
                '-' if one[n]['value'] is None else f'{one[n]["value"]:.4g}' for n in MEASURED
            ]
            lines.append(
                f'| {method["method"]} | {one["seed"]} | `{arch}` | {one["score"]:.1f} | '
                + ' | '.join(values)
                + ' |'
            )
    return '\n'.join(lines) + '\n'
