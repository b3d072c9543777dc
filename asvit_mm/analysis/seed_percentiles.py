"""How do named seeds rank among random ones? Percentiles of L^E and kappa, and what repeated measuring gains.

L^E, the expected length distortion, is better when larger; kappa, the NTK condition number, when smaller.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..arch import SEARCH_SPACE, Architecture
from ..errors import InputError
from ..nas import ComplexityMeasure
from ..nas.evaluator import usable
from ..runs.progress import print_summary
from ..runs.run import make_measure
from ..runs.scale import read_topology
from ..utils.files import read_object
from .plots import plot_percentiles, plot_repeats
from .records import (
    Record,
    StudyFolder,
    markdown_table,
    mean_and_std,
    shown,
    study_command,
    take_share,
)
from .settings import SeedPercentileSettings
from .statistics import (
    MEASURED,
    Pair,
    draw_seeds,
    mean_of,
    percentiles,
    rank_sum_percentile,
    repeat_table,
    variance_shares,
)

# Added to the study's seed for its images, curves and weights: a network that a search chose for what it
# measured must be judged by draws that the search has not seen.
HELD_OUT = 1_000_000
TITLES = {'length_distortion': 'L^E', 'ntk_condition_number': 'kappa'}

REPORT = """# How seeds rank among random ones

{num_archs} distinct seeds drawn uniformly from the search space, and {num_named} named, each measured on \
{repeat} freshly initialised network(s): {data}, {img_size} pixels, batches of {batch_size}, seed {seed}, \
{device}, {threads} thread(s) a process.

Images, curves and weights are those of run seed {run_seed:,}: what a search of another seed found is \
judged by draws that it has not seen.

    {command}

{ranks}

- percentile: per cent of the random seeds that the architecture is better than, those equal to it counted \
half; itself, where it is among them, left out. 100 is better than all. Higher L^E is better, lower kappa \
is. A value is the mean over the networks; without one (-), an architecture is worse than all that have \
one.
- rank sum: rank by L^E plus rank by kappa, the architecture and the random seeds ranked together, equal \
values sharing the mean rank.

![L^E against kappa](scatter.png)

## Which choices matter

{choices}

- K: kernels, S: splits, E: expansions of each stage, H: heads. Share of the variance of the logarithm, \
over the random seeds that have a value, that the choice explains (eta squared, one choice at a time). By \
chance: what a choice of {widest} values explains that does not matter; fewer values explain less.

## What repeats gain

One network takes {seconds:.3g} s (mean, both measures).

"""
REPEATS = """{repeats}

- tau: Kendall tau-b over the random seeds between the mean of some networks and the mean of the other \
ones; mean ± standard deviation over the groups of so many networks, which overlap, so that the deviation \
is no standard error.
- reliability: expected correlation of the mean of that many networks with the mean of as many others, \
from the variances of the logarithms between architectures and between the networks of one (two-way, what \
a batch and a curve do to all architectures alike left aside: the ICC(3,k) of Shrout and Fleiss 1979). \
Their ratio: {ratios}.

![Agreement of ranks against the number of networks](repeats.png)
"""


def run_study(settings: SeedPercentileSettings) -> dict[str, Any] | None:
    """Run the study, or continue one, and write records, report, table and pictures.

    With a launcher each process takes its share of the architectures, and the main rank writes the report. A
    study that is resumed may name other architectures; those that it lacks are measured then.

    Returns:
        the content of report.json; None in the other processes.

    Raises:
        InputError: a user's mistake; nothing has been measured.
        KeyboardInterrupt: Ctrl-C while measuring; says how far the study is and how to go on.
    """
    named = read_named(settings.archs)
    share, device = take_share(settings)
    run_seed = HELD_OUT + settings.seed
    _refuse_seen(settings.archs, run_seed)
    measure = make_measure(replace(settings, device=str(device), seed=run_seed))
    random = [str(arch) for arch in draw_seeds(settings.num_archs, settings.seed)]
    architectures = [{'arch': arch} for arch in dict.fromkeys([*random, *named.values()])]
    folder = StudyFolder(
        settings, share, architectures, fixed=settings.num_archs, run_seed=run_seed
    )
    folder.open()

    def measure_one(index: int) -> Record:
        return measure_networks(measure, Architecture.parse(folder.architectures[index]['arch']))

    with folder.resumable():
        records = folder.complete(measure_one, _describe)
    return _report(settings, folder, records, named) if share.rank == 0 else None


def read_named(archs: Sequence[str]) -> dict[str, str]:
    """Name to seed of ``[NAME=]ARCH``, in the order given.

    Raises:
        InputError: a malformed architecture, a file that is no result, or one name for two.
    """
    found: dict[str, str] = {}
    for given in archs:
        name, equals, spec = given.partition('=')
        arch = str(read_topology(spec if equals else given))
        if found.setdefault(name, arch) != arch:
            raise InputError(f'{name!r} names two architectures: give them different names')
    return found


def measure_networks(measure: ComplexityMeasure, arch: Architecture) -> Record:
    """Every network's values, as a search with this measure obtains them; plain data.

    Returns:
        for each measure a value per network, or None; ``bad``: the reasons; ``seconds`` of each network.
    """
    values: dict[str, list[float | None]] = {name: [] for name in MEASURED}
    bad, seconds = [], []
    for r in range(len(measure.images)):
        begin = time.perf_counter()
        scores = measure.network((arch, 0), r)
        seconds.append(round(time.perf_counter() - begin, 4))
        for name, score in scores.items():
            values[name].append(usable(score))
            if values[name][-1] is None:
                bad.append(f'network {r + 1}: {name}: {score.reason or "not finite"}')
    return {**values, 'bad': bad, 'seconds': seconds}


def pair_of(record: Mapping[str, Any]) -> Pair:
    """L^E and kappa of an architecture: the means over its networks."""
    length, kappa = (mean_of(record[name]) for name in MEASURED)
    return length, kappa


def summarise(
    records: Sequence[Mapping[str, Any]], num: int, named: Mapping[str, str], seed: int
) -> dict[str, Any]:
    """How the named architectures rank among the random ones, and what repeats gain.

    Args:
        records: of all architectures, the ``num`` random ones first: for each measure the values of its
            networks, and ``seconds``.
        named: name to architecture string.
        seed: decides the groups of networks, where there are too many to look at all.

    Returns:
        Plain data. ``named``: for each its values, their percentiles among the random architectures other
        than itself, and that of the rank sum; for each measure under ``random`` the quartiles, under
        ``choices`` :func:`.statistics.variance_shares` and under ``repeats``
        :func:`.statistics.repeat_table`, over the random architectures; ``seconds``, the mean per network.
    """
    pairs = {record['arch']: pair_of(record) for record in records}
    random = [record['arch'] for record in records[:num]]
    ranked = []
    for name, arch in named.items():
        others = [pairs[other] for other in random if other != arch]
        found = zip(MEASURED, pairs[arch], percentiles(pairs[arch], others), strict=True)
        measured = {m: {'value': value, 'percentile': share} for m, value, share in found}
        rank_sum = rank_sum_percentile(pairs[arch], others)
        ranked.append({'name': name, 'arch': arch, **measured, 'rank_sum_percentile': rank_sum})
    quartiles, choices, repeats = {}, {}, {}
    for i, name in enumerate(MEASURED):
        values = [pairs[arch][i] for arch in random]
        known = [value for value in values if value is not None]
        quartiles[name] = {
            'measured': len(known),
            'quartiles': np.percentile(known, [25, 50, 75]).tolist() if known else [None] * 3,
        }
        choices[name] = variance_shares(list(map(Architecture.parse, random)), values)
        rows = [[math.nan if v is None else v for v in r[name]] for r in records[:num]]
        repeats[name] = repeat_table(np.array(rows), seed) if len(rows[0]) > 1 else None
    return {
        'named': ranked,
        'random': quartiles,
        'choices': choices,
        'repeats': repeats,
        'seconds': float(np.mean([taken for record in records for taken in record['seconds']])),
    }


def report_text(study: Mapping[str, Any], summary: Mapping[str, Any], command: str) -> str:
    """The study as a Markdown page: what was done, the tables, how to read them."""
    header = ['architecture', '', 'L^E', 'percentile', 'kappa', 'percentile']
    rows = []
    for one in summary['named']:
        figures = [(one[name]['value'], one[name]['percentile']) for name in MEASURED]
        cells = [cell for value, share in figures for cell in (shown(value), f'{share:.1f}')]
        rows.append([one['name'], f'`{one["arch"]}`', *cells, f'{one["rank_sum_percentile"]:.1f}'])
    quartiles = [summary['random'][name]['quartiles'] for name in MEASURED]
    medians = [shown(median) for _, median, _ in quartiles]
    ranges = [f'{shown(low)} to {shown(high)}' for low, _, high in quartiles]
    for title, (length, kappa) in (('median', medians), ('quartiles', ranges)):
        rows.append([f'random seeds, {title}', '', length, '', kappa, '', ''])
    widest = max(map(len, SEARCH_SPACE.choices.values()))
    shares = []
    for name, found in summary['choices'].items():
        measured = summary['random'][name]['measured']
        chance = (widest - 1) / (measured - 1) if measured > widest else None
        cells = [shown(share, '.1%') for share in (*found.values(), chance)]
        shares.append([TITLES[name], *cells])
    text = REPORT.format(
        **study['settings'],
        num_named=len(summary['named']),
        run_seed=study['run_seed'],
        command=command,
        ranks=markdown_table([*header, 'percentile of the rank sum'], rows, text_columns=2),
        choices=markdown_table(['measure', *SEARCH_SPACE.choices, 'by chance'], shares),
        widest=widest,
        seconds=summary['seconds'],
    )
    if study['settings']['repeat'] == 1:
        return text + 'One network per seed says nothing about it.\n'
    return text + REPEATS.format(
        repeats=_repeats(summary['repeats']),
        ratios=', '.join(
            f'{TITLES[name]} {shown(table["variance_ratio"])} ({table["architectures"]} architectures, '
            f'{table["left_out"]} left out)'
            for name, table in summary['repeats'].items()
        ),
    )


def _repeats(tables: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for name, table in tables.items():
        for row in table['rows']:
            tau = '-' if row['tau'] is None else mean_and_std(row['tau'], row['tau_std'], '.3f')
            rows.append([TITLES[name], str(row['networks']), tau, shown(row['reliability'])])
    return markdown_table(['measure', 'networks', 'tau with the others', 'reliability'], rows)


def _refuse_seen(archs: Sequence[str], run_seed: int) -> None:
    """Refuse results of searches that used the study's own draws."""
    for given in archs:
        spec = given.partition('=')[2] or given
        if spec.endswith('.json'):
            result = read_object(Path(spec), 'give the result.json of a search')
            if (result.get('settings') or {}).get('seed') == run_seed:
                raise InputError(
                    f'{spec} was found with the draws that it would be judged by (seed {run_seed}): '
                    'give another --seed'
                )


def _describe(record: Record) -> str:
    length, kappa = pair_of(record)
    return f'{record["arch"]}  L^E {shown(length)}  kappa {shown(kappa)}'


def _report(
    settings: SeedPercentileSettings,
    folder: StudyFolder,
    records: list[Record],
    named: Mapping[str, str],
) -> dict[str, Any]:
    num = settings.num_archs
    summary = summarise(records, num, named, settings.seed)
    pairs = {record['arch']: pair_of(record) for record in records}
    random = [pairs[record['arch']] for record in records[:num]]
    marked = {name: pairs[arch] for name, arch in named.items()}
    plot_percentiles(random, marked, folder.path / 'scatter.png')
    if settings.repeat > 1:
        plot_repeats(summary['repeats'], folder.path / 'repeats.png')
    text = report_text(folder.study, summary, study_command(settings))
    report = {'study': folder.study, **summary, 'records': records}
    written = folder.write_report(text, report)
    rows = {
        one['name']: f'percentile of L^E {one["length_distortion"]["percentile"]:.1f}, of kappa '
        f'{one["ntk_condition_number"]["percentile"]:.1f}, of the rank sum '
        f'{one["rank_sum_percentile"]:.1f}'
        for one in summary['named']
    }
    print_summary({**rows, 'written': written})
    return report
