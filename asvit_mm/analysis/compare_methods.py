"""Search methods compared: every method from several seeds, all scored by the same random seeds.

Rewards are relative to the run, so the yardstick is outside it: the score of a network is the mean of the
percentiles of its L^E and its kappa among fixed random architectures that were measured alike.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..arch import Architecture
from ..engine.distributed import Share, wait_for_all
from ..nas import METHODS, ComplexityMeasure
from ..runs.progress import print_summary
from ..runs.run import make_measure
from ..runs.search import run_search
from ..runs.settings import SearchSettings
from ..utils.files import relative
from .plots import plot_methods
from .records import (
    Record,
    StudyFolder,
    markdown_table,
    mean_and_std,
    own_errors,
    shown,
    study_command,
    take_share,
)
from .settings import MethodsSettings
from .statistics import MEASURED, Pair, draw_seeds, mean_of, percentiles

# A stream of the seed that no search draws from: theirs have one more number, this one two.
REFERENCE_STREAM = (0, 1)
# Which draw of an architecture's weights its score is measured with; searches take the first, 0.
FRESH = 1
# Shares of the steps at which the best so far is compared.
MARKS = (0.2, 0.5, 1.0)

REPORT = """# Search methods compared

{seeds} searches of {steps} steps by each method, seeds {seed} to {last}: {data}, {img_size} pixels, \
batches of {batch_size}, {repeat} network(s) an architecture, {device}, {threads} thread(s) a process.

    {command}

{methods}

Mean ± standard deviation over the seeds.

- Score: the mean of two percentiles, of L^E and of kappa, among {reference} distinct seeds drawn \
uniformly, the same for all searches; 50 is a random seed, 100 better than all. Equal values count half. \
What one batch and one curve do to all networks alike would move a percentile, so the random seeds are \
measured with the images and curves of every search seed, each time with fresh weights that no search \
drew.
- best of N: the best score among the first N architectures that a search measured, by the values that it \
measured (lucky ones included). A recalled architecture costs nothing and is not counted; a search that \
measured fewer keeps its last best.
- result: the score of the architecture that the search returned, measured anew: with the images and \
curves of all the other seeds, and weights that no search drew; L^E and kappa are the means of these \
{others} measurements, as are those of the random seeds that they are ranked among. So no method gains by \
lucky draws. The two columns after it are its two percentiles.
- At one seed the first population of the evolution is what random search draws first.
- seconds: of one search.

![Best score so far, and the scores of the results](comparison.png)

## Results

{results}
"""


def run_comparison(settings: MethodsSettings, tools: Path = Path('tools')) -> dict[str, Any] | None:
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
    random = draw_seeds(settings.reference, (settings.seed, *REFERENCE_STREAM))
    architectures = [{'arch': str(arch)} for arch in random]
    folder = StudyFolder(
        settings, share, architectures, fixed=settings.reference, methods=list(METHODS)
    )
    folder.open()

    def measure(index: int) -> Record:
        arch = Architecture.parse(folder.architectures[index]['arch'])
        return {'measured': measure_by_all(measures, arch)}

    def progress() -> str:
        found = sum((Path(search.work_dir) / 'result.json').exists() for search in searches)
        return f'{len(folder.done())} records and {found} of {len(searches)} searches'

    with folder.resumable(progress):
        folder.complete(measure, _describe)
        _search(searches, share, tools)
        wait_for_all(share, 'searches')
        found = list(map(_read, searches))
        folder.add(str(search['arch']) for search in found)
        records = folder.complete(measure, _describe)
    return _report(settings, folder, records, found) if share.rank == 0 else None


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


def measure_by_all(measures: Sequence[ComplexityMeasure], arch: Architecture) -> list[Record]:
    """The architecture with the images and curves of every search seed and weights that none drew."""
    return [next(measure([(arch, FRESH)])).to_record() for measure in measures]


def score(pair: Pair, others: Sequence[Pair]) -> float:
    """Mean of the percentiles of L^E and of kappa among ``others``: 50 is a random one, 100 the best."""
    return sum(percentiles(pair, others)) / len(MEASURED)


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


def best_so_far(trace: Sequence[Mapping[str, Any]], others: Sequence[Pair]) -> np.ndarray:
    """The best score after 1, 2, ... measured architectures; recalled ones do not count.

    Args:
        trace: records of a search.
        others: the random architectures, measured with the images and curves of that search.
    """
    scores = [score(pair_of(record), others) for record in trace if not record['recalled']]
    return np.maximum.accumulate(scores)


def summarise(
    settings: MethodsSettings,
    records: Sequence[Mapping[str, Any]],
    searches: Sequence[Mapping[str, Any]],
) -> list[Record]:
    """How the methods compare; plain data.

    Args:
        records: of all architectures, the random ones first, the searches' results included: for each search
            seed what its images and curves give, with weights that no search drew.
        searches: ``method``, ``seed``, ``arch`` (the result), ``trace`` and ``seconds`` of each.

    Returns:
        For each method its ``searches`` (``figures``: see :func:`columns`; the values and percentiles of the
        result; ``improvements``: after how many measurements the best score rose, and to what), and ``mean``
        and ``std`` (n - 1 in the denominator) of the figures over the seeds.
    """
    random = records[: settings.reference]
    by_arch = {record['arch']: record for record in records}
    marks = [int(name.split()[-1]) for name in columns(settings) if name.startswith('best')]
    methods: dict[str, list[Record]] = {}
    for search in searches:
        i, arch = search['seed'] - settings.seed, search['arch']
        best = best_so_far(search['trace'], [pair_of(one['measured'][i]) for one in random])
        others = [result_pair(record, i) for record in random if record['arch'] != arch]
        pair = result_pair(by_arch[arch], i)
        shares = percentiles(pair, others)
        rises = [k for k, value in enumerate(best) if k == 0 or value > best[k - 1]]
        reached = [float(best[min(mark, len(best)) - 1]) for mark in marks]
        figures = [len(best), *reached, score(pair, others), *shares, search['seconds']]
        methods.setdefault(search['method'], []).append(
            {
                'seed': search['seed'],
                'arch': arch,
                'figures': dict(zip(columns(settings), figures, strict=True)),
                **dict(zip(MEASURED, pair, strict=True)),
                'improvements': [[k + 1, float(best[k])] for k in rises],
            }
        )
    summary = []
    for method, found in methods.items():
        table = np.array([list(one['figures'].values()) for one in found])
        mean, std = table.mean(0).tolist(), table.std(0, ddof=1).tolist()
        over_seeds = {'mean': dict(zip(columns(settings), mean, strict=True))}
        over_seeds['std'] = dict(zip(columns(settings), std, strict=True))
        summary.append({'method': method, 'searches': found, **over_seeds})
    return summary


def columns(settings: MethodsSettings) -> dict[str, str]:
    """The figures of a search, each with its format: architectures measured, scores, percentiles, seconds."""
    marks = sorted({max(1, round(share * settings.steps)) for share in MARKS})
    best = {f'best of {mark}': '.2f' for mark in marks}
    result = {'result': '.1f', 'its L^E': '.1f', 'its kappa': '.1f'}
    return {'measured': '.0f', **best, **result, 'seconds': '.0f'}


def report_text(settings: MethodsSettings, methods: Sequence[Record]) -> str:
    """The comparison as a Markdown page: what was done, the table, how it was scored."""
    table, results = [], []
    for method in methods:
        cells = [
            mean_and_std(method['mean'][name], method['std'][name], spec)
            for name, spec in columns(settings).items()
        ]
        table.append([method['method'], *cells])
        for one in method['searches']:
            figures = [f'{one["figures"]["result"]:.1f}', *(shown(one[name]) for name in MEASURED)]
            results.append([method['method'], str(one['seed']), f'`{one["arch"]}`', *figures])
    return REPORT.format(
        **settings.fingerprint(),
        last=settings.seed + settings.seeds - 1,
        command=study_command(settings),
        others=settings.seeds - 1,
        methods=markdown_table(['method', *columns(settings)], table),
        results=markdown_table(
            ['method', 'seed', 'architecture', 'score', 'L^E', 'kappa'], results, text_columns=3
        ),
    )


def _search(searches: Sequence[SearchSettings], share: Share, tools: Path) -> None:
    """Run this process's searches that are not complete; what they print goes into a log of each."""
    for i in share.of(len(searches)):
        search = searches[i]
        log = Path(f'{search.work_dir}.log')
        log.parent.mkdir(parents=True, exist_ok=True)
        with own_errors(share), log.open('a', encoding='utf-8') as file, redirect_stdout(file):
            result = run_search(search, tools)
        print(f'{relative(Path(search.work_dir))}: {result.architecture}', flush=True)


def _read(search: SearchSettings) -> Record:
    """What the report needs of a complete search."""
    path = Path(search.work_dir)
    trace, timing = (
        list(map(json.loads, (path / name).read_text(encoding='utf-8').splitlines()))
        for name in ('trace.jsonl', 'timing.jsonl')
    )
    return {
        'method': search.method,
        'seed': search.seed,
        'arch': json.loads((path / 'result.json').read_text(encoding='utf-8'))['arch'],
        'trace': trace,
        'seconds': round(sum(line['seconds'] for line in timing), 3),
    }


def _describe(record: Record) -> str:
    length, kappa = map(shown, pair_of(record['measured'][0]))
    return f'{record["arch"]}  L^E {length}  kappa {kappa}'


def _report(
    settings: MethodsSettings, folder: StudyFolder, records: list[Record], searches: list[Record]
) -> dict[str, Any]:
    methods = summarise(settings, records, searches)
    plot_methods(methods, folder.path / 'comparison.png')
    summary = {'study': folder.study, 'methods': methods, 'records': records}
    written = folder.write_report(report_text(settings, methods), summary)
    rows = {
        one['method']: f'result {mean_and_std(one["mean"]["result"], one["std"]["result"])} '
        '(score: 50 is a random seed)'
        for one in methods
    }
    print_summary({**rows, 'written': written})
    return summary
