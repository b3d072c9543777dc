"""How do named seeds rank among random ones? Percentiles of L^E and kappa, and the noise of a measurement.

L^E, the expected length distortion, is better when larger; kappa, the NTK condition number, when smaller.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..arch import BASE_STRIDE, Architecture, SearchSpace
from ..errors import InputError
from ..nas import ComplexityMeasure, space_for
from ..nas.evaluator import usable
from ..runs.progress import format_value
from ..runs.run import make_measure
from ..runs.scale import read_topology
from ..utils.files import read_object
from .plots import plot_percentiles
from .settings import SeedPercentileSettings
from .statistics import MEASURED, Pair, draw_seeds, mean_of, percentiles, repeat_noise
from .study import Record, StudyFolder, take_share
from .tables import markdown_table

# Added to the study's seed for its images, curves and weights: a network that a search chose for what it
# measured must be judged by draws that the search has not seen.
HELD_OUT = 1_000_000
TITLES = ('L^E', 'kappa')

PAGE = """# How seeds rank among random ones

{num_archs} distinct seeds drawn uniformly from the search space for these images, and the named ones, each \
measured on {repeat} freshly initialised network(s): {data}, {img_size} pixels, batches of {batch_size}, \
seed {seed}, {device}, {threads} thread(s) a process. Images, curves and weights are those of run seed \
{run_seed:,}: what a search of another seed found is judged by draws that it has not seen.

    {command}

{table}

- A value is the mean over the networks; without one (-), an architecture is worse than all that have one.
- percentile: per cent of the random seeds that the architecture is better than, those equal to it counted \
half; itself, where it is among them, left out. Higher L^E is better, lower kappa is.
- rank sum: rank by L^E plus rank by kappa, the architecture and the random seeds ranked together.

![L^E against kappa](scatter.png)

## Noise

{noise}

- Standard deviations of the logarithm, between random seeds and between the networks of one.
- reliability: expected correlation of the mean of that many networks with the mean of as many others, the \
ICC(3,k) of Shrout and Fleiss 1979.
"""


def run_study(settings: SeedPercentileSettings) -> Record | None:
    """Run the study, or continue one, and write records, report, table and picture.

    With a launcher each process takes its share of the architectures, and the main rank writes the report. A
    study that is resumed may name other architectures; those that it lacks are measured then.

    Returns:
        the content of report.json; None in the other processes.

    Raises:
        InputError: a user's mistake; nothing has been measured.
        KeyboardInterrupt: Ctrl-C while measuring; says how far the study is and how to go on.
    """
    run_seed = HELD_OUT + settings.seed
    named = read_named(settings.archs, run_seed)
    share, device = take_share(settings)
    measure = make_measure(replace(settings, device=str(device), seed=run_seed))
    space = space_of(named, settings.pixels)
    random = {str(arch): arch for arch in draw_seeds(settings.num_archs, settings.seed, space)}
    items = {**random, **{str(arch): arch for arch in named.values()}}
    folder = StudyFolder(settings, 'seed_percentiles', share, run_seed=run_seed)
    with folder.resumable():
        records = folder.complete(
            items,
            lambda _, arch: measure_networks(measure, arch),
            lambda record: 'L^E {}  kappa {}'.format(*map(format_value, pair_of(record))),
        )
    return report(folder, records, named) if share.rank == 0 else None


def read_named(archs: Sequence[str], run_seed: int) -> dict[str, Architecture]:
    """Name to seed of ``[NAME=]ARCH``, in the order given.

    Raises:
        InputError: a malformed architecture, a file that is no result or that of a search with the draws of
            ``run_seed``, or one name for two.
    """
    found: dict[str, Architecture] = {}
    for given in archs:
        name, equals, spec = given.partition('=')
        spec = spec if equals else given
        arch = read_topology(spec)
        if found.setdefault(name, arch) != arch:
            raise InputError(f'{name!r} names two architectures: give them different names')
        if spec.endswith('.json'):
            result = read_object(Path(spec), 'give the result.json of a search')
            settings = result.get('settings')
            if isinstance(settings, dict) and settings.get('seed') == run_seed:
                raise InputError(
                    f'{spec} was found with the draws that it would be judged by (seed {run_seed}): '
                    'give another --seed'
                )
    return found


def space_of(named: Mapping[str, Architecture], img_size: int) -> SearchSpace:
    """The search space that architectures are judged by draws of: that for the images and their stride.

    Raises:
        InputError: architectures of several strides.
    """
    strides = sorted({arch.stride for arch in named.values()}) or [BASE_STRIDE]
    if len(strides) > 1:
        raise InputError(
            f'the architectures have strides {" and ".join(map(str, strides))} of the patch embedding, which '
            'are ranked apart: give those of one stride at a time'
        )
    return space_for(img_size, strides[0])


def measure_networks(measure: ComplexityMeasure, arch: Architecture) -> Record:
    """For each measure every network's value, or None, as a search with this measure obtains them."""
    networks = [measure.network((arch, 0), r) for r in range(len(measure.images))]
    return {name: [usable(network[name]) for network in networks] for name in MEASURED}


def pair_of(record: Mapping[str, Any]) -> Pair:
    """L^E and kappa of an architecture: the means over its networks."""
    length, kappa = (mean_of(record[name]) for name in MEASURED)
    return length, kappa


def summarise(
    records: Sequence[Mapping[str, Any]], num: int, named: Mapping[str, Architecture]
) -> Record:
    """How the named architectures rank among the random ones, and how much networks of one differ.

    Args:
        records: of all architectures, the ``num`` random ones first: ``name`` and for each measure the values
            of its networks.
        named: name to architecture.

    Returns:
        Plain data. ``named``: for each its ``name``, ``arch``, ``values`` (L^E and kappa) and
        ``percentiles`` (the same, and of the rank sum) among the random architectures other than itself;
        ``medians`` of the random ones; ``noise``: for each measure :func:`.statistics.repeat_noise`.
    """
    pairs = {record['name']: pair_of(record) for record in records}
    random = list(pairs)[:num]
    ranked = []
    for name, arch in named.items():
        pair = pairs[str(arch)]
        shares = percentiles(pair, [pairs[other] for other in random if other != str(arch)])
        ranked.append({'name': name, 'arch': str(arch), 'values': pair, 'percentiles': shares})
    medians, noise = [], []
    for i, measure in enumerate(MEASURED):
        known = [value for arch in random if (value := pairs[arch][i]) is not None]
        medians.append(float(np.median(known)) if known else None)
        networks = [[math.nan if v is None else v for v in r[measure]] for r in records[:num]]
        noise.append(repeat_noise(np.array(networks)))
    return {'named': ranked, 'medians': medians, 'noise': noise}


def report(
    folder: StudyFolder, records: Sequence[Record], named: Mapping[str, Architecture]
) -> Record:
    """Rank, draw and write the report; its content."""
    num = folder.study['settings']['num_archs']
    summary = summarise(records, num, named)
    pairs = [pair_of(record) for record in records[:num]]
    marked = {one['name']: one['values'] for one in summary['named']}
    plot_percentiles(pairs, marked, folder.path / 'scatter.png')
    rows = []
    median = {'name': 'median', 'arch': '', 'values': summary['medians'], 'percentiles': None}
    for one in (*summary['named'], median):
        row = {'seed': one['name'], 'architecture': f'`{one["arch"]}`' if one['arch'] else ''}
        shares = [f'{share:.1f}' for share in one['percentiles'] or ()] or [''] * 3
        for title, value, share in zip(TITLES, one['values'], shares[:2], strict=True):
            row |= {title: format_value(value), f'percentile of {title}': share}
        rows.append({**row, 'percentile of the rank sum': shares[2]})
    noise = [
        {
            'measure': title,
            'between seeds': format_value(one['between']),
            'between networks': format_value(one['within']),
            **{f'reliability of {r}': f'{v:.4f}' for r, v in enumerate(one['reliability'], 1)},
        }
        for title, one in zip(TITLES, summary['noise'], strict=True)
    ]
    words = {
        'table': markdown_table(rows),
        'noise': markdown_table(noise),
        'run_seed': folder.study['run_seed'],
    }
    return folder.write_report(PAGE, words, **summary, records=records)
