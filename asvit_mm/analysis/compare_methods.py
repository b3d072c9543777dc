"""Search methods compared: every method from several seeds, all scored by the same random seeds.

Rewards are relative to the run, so the yardstick is outside it: the score of a network is the sum of its
ranks by L^E and by kappa among fixed random architectures that were measured alike, scaled to 0 to 100.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..arch import Architecture
from ..nas import METHODS, space_for
from ..runs.progress import format_value
from ..runs.run import make_measure
from ..runs.search import run_search
from ..runs.settings import SearchSettings
from ..utils.files import relative
from .plots import plot_methods
from .settings import MethodsSettings
from .statistics import MEASURED, Pair, draw_seeds, mean_of, percentiles
from .study import Record, StudyFolder, take_share
from .tables import markdown_table, mean_and_std

# A stream of the seed that no search draws from: theirs have one more number, this one two.
REFERENCE_STREAM = (0, 1)
# Which draw of an architecture's weights its score is measured with; searches take the first, 0.
FRESH = 1
# Shares of the steps at which the best so far is compared.
MARKS = (0.2, 0.5, 1.0)

PAGE = """# Search methods compared

{seeds} searches of {steps} steps by each method, seeds {seed} to {last}: {data}, {img_size} pixels, \
batches of {batch_size}, {repeat} network(s) an architecture, {device}, {threads} thread(s) a process.

    {command}

{table}

Mean ± standard deviation over the seeds.

- Score: the mean of the percentiles of L^E and of kappa among {reference} distinct seeds drawn uniformly; \
50 is a random seed, 100 better than all. They are measured with the images and curves of every search seed, \
with weights that no search drew.
- best of N: the best score among the first N architectures that a search measured, by the values that it \
measured, lucky ones included; a search that measured fewer keeps its last best.
- result: the score of the architecture that the search returned, measured anew with the images and curves \
of the {others} other seed(s), as are the random seeds, so that no method gains by lucky draws.

![Best score so far](comparison.png)
"""


def run_comparison(settings: MethodsSettings, tools: Path = Path('tools')) -> Record | None:
    """Compare the methods, or continue that, and write records, report, table and picture.

    With a launcher each process takes its share of the random seeds, then whole searches, then their results;
    the main rank writes the report.

    Args:
        tools: folder of the tools, for the commands that the searches print.

    Returns:
        the content of report.json; None in the other processes.

    Raises:
        InputError: a user's mistake; nothing has been measured, or no network of a search could be.
        KeyboardInterrupt: Ctrl-C; says how far the study is and how to go on.
    """
    share, device = take_share(settings)
    seeds = range(settings.seed, settings.seed + settings.seeds)
    searches = [search_settings(settings, m, seed, device) for seed in seeds for m in METHODS]
    measures = [make_measure(search) for search in searches[:: len(METHODS)]]
    stream, space = (settings.seed, *REFERENCE_STREAM), space_for(settings.pixels)
    random = draw_seeds(settings.reference, stream, space)
    folder = StudyFolder(settings, 'compare_methods', share, methods=list(METHODS))

    def complete(archs: Sequence[Architecture]) -> list[Record]:
        """Measure with the images and curves of every search seed, and weights that none drew."""
        return folder.complete(
            {str(arch): arch for arch in archs},
            lambda _, arch: {
                'measured': [next(measure([(arch, FRESH)])).to_record() for measure in measures]
            },
            lambda record: 'L^E {}  kappa {}'.format(
                *map(format_value, pair_of(record['measured'][0]))
            ),
        )

    with folder.resumable():
        references = complete(random)
        for i in share.of(len(searches)):
            log = Path(f'{searches[i].work_dir}.log')
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open('a', encoding='utf-8') as file, redirect_stdout(file):
                found = run_search(searches[i], tools).architecture
            print(f'{relative(Path(searches[i].work_dir))}: {found}', flush=True)
        folder.wait()
        complete_searches = list(map(read_search, searches))
        results = complete([Architecture.parse(search['arch']) for search in complete_searches])
    if share.rank != 0:
        return None
    return report(folder, summarise(settings, references, results, complete_searches))


def search_settings(
    settings: MethodsSettings, method: str, seed: int, device: torch.device
) -> SearchSettings:
    """Settings of one of the searches, which are resumed, in the folder of the study."""
    return SearchSettings(
        work_dir=str(Path(settings.work_dir) / 'searches' / f'{method}-{seed}'),
        data=settings.data,
        img_size=settings.img_size,
        batch_size=settings.batch_size,
        repeat=settings.repeat,
        seed=seed,
        device=str(device),
        method=method,
        steps=settings.steps,
        resume=True,
    )


def read_search(search: SearchSettings) -> Record:
    """``method``, ``seed``, ``arch`` (the result) and ``trace`` of a complete search."""
    path = Path(search.work_dir)
    lines = (path / 'trace.jsonl').read_text(encoding='utf-8').splitlines()
    arch = json.loads((path / 'result.json').read_text(encoding='utf-8'))['arch']
    trace = list(map(json.loads, lines))
    return {'method': search.method, 'seed': search.seed, 'arch': arch, 'trace': trace}


def pair_of(record: Mapping[str, Any]) -> Pair:
    """L^E and kappa of the fields that :func:`asvit_mm.nas.Measurement.to_record` gives."""
    length, kappa = (record[name] for name in MEASURED)
    return length, kappa


def result_pair(record: Mapping[str, Any], without: int) -> Pair:
    """L^E and kappa of an architecture: the means over what all search seeds measure, except one.

    Args:
        record: ``measured``: for each seed, what its images and curves give with fresh weights.
        without: index of the seed that is left out.
    """
    kept = [pair_of(one) for i, one in enumerate(record['measured']) if i != without]
    length, kappa = (mean_of([pair[k] for pair in kept]) for k in range(2))
    return length, kappa


def score(pair: Pair, others: Sequence[Pair]) -> float:
    """Mean of the percentiles of L^E and of kappa among ``others``: 50 is a random one, 100 the best."""
    length, kappa, _ = percentiles(pair, others)
    return (length + kappa) / 2


def best_so_far(trace: Sequence[Mapping[str, Any]], others: Sequence[Pair]) -> list[float]:
    """The best score after 1, 2, ... measured architectures; recalled ones do not count.

    Args:
        trace: records of a search.
        others: the random architectures, measured with the images and curves of that search.
    """
    scores = [score(pair_of(record), others) for record in trace if not record['recalled']]
    return [float(best) for best in np.maximum.accumulate(scores)]


def summarise(
    settings: MethodsSettings,
    references: Sequence[Mapping[str, Any]],
    results: Sequence[Mapping[str, Any]],
    searches: Sequence[Mapping[str, Any]],
) -> list[Record]:
    """What each search measured and found; plain data.

    Args:
        references: records of the random architectures: ``name`` and ``measured``, for each search seed what
            its images and curves give, with weights that no search drew.
        results: the same of what the searches returned.
        searches: of :func:`read_search`.

    Returns:
        For each search its ``method``, ``seed``, ``arch``, ``best`` (after 1, 2, ... measurements),
        ``values`` (L^E and kappa of the result) and ``result``, its score.
    """
    by_arch = {record['name']: record for record in results}
    summary = []
    for search in searches:
        i, arch = search['seed'] - settings.seed, search['arch']
        others = [result_pair(record, i) for record in references if record['name'] != arch]
        pair = result_pair(by_arch[arch], i)
        alike = [pair_of(record['measured'][i]) for record in references]
        summary.append(
            {
                'method': search['method'],
                'seed': search['seed'],
                'arch': arch,
                'best': best_so_far(search['trace'], alike),
                'values': pair,
                'result': score(pair, others),
            }
        )
    return summary


def report(folder: StudyFolder, searches: Sequence[Record]) -> Record:
    """Compare, draw and write the report; its content."""
    settings = folder.study['settings']
    plot_methods(searches, folder.path / 'comparison.png')
    marks = sorted({max(1, round(share * settings['steps'])) for share in MARKS})
    table = []
    for method in METHODS:
        mine = [one for one in searches if one['method'] == method]
        best = {
            f'best of {n}': mean_and_std([one['best'][:n][-1] for one in mine], '.2f')
            for n in marks
        }
        measured = mean_and_std([len(one['best']) for one in mine], '.0f')
        result = mean_and_std([one['result'] for one in mine])
        table.append({'method': method, 'measured': measured, **best, 'result': result})
    words = {
        'table': markdown_table(table),
        'last': settings['seed'] + settings['seeds'] - 1,
        'others': settings['seeds'] - 1,
    }
    return folder.write_report(PAGE, words, searches=searches)
