"""Search methods compared: every method from several seeds, all scored by the same random seeds."""

import json
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..arch import Architecture
from ..engine.distributed import Share, wait_for_all
from ..nas import METHODS, ComplexityMeasure, measured_fields
from ..runs.progress import figure, print_summary
from ..runs.resume import resumable
from ..runs.search import run_search
from ..runs.settings import SearchSettings
from ..runs.setup import check_at_least, prepare, relative
from ..utils.files import atomic_write_json, atomic_write_text
from . import StudyFolder, comparison_report, draw_seeds, search_seeds_of, summarise_comparison
from .settings import (
    MeasuringStudySettings,
    complete_records,
    open_study,
    own_share,
    study_command,
    take_share,
)
from .standing_plots import plot_comparison

# A stream of the seed that no search draws from: theirs have one more number, this one two.
REFERENCE_STREAM = (0, 1)
# Which draw of an architecture's weights the yardstick takes; searches take the first, 0.
FRESH = 1


@dataclass(frozen=True, kw_only=True)
class CompareSettings(MeasuringStudySettings):
    """Settings of the comparison.

    Args:
        seeds: searches of each method, from ``seed`` on; at least 2, as each is judged by the others'
            images and curves.
        steps: of each search.
        reference: random seeds that the scores are percentiles among.

    Raises:
        InputError: a value out of range.
    """

    data: str = 'digits'
    repeat: int = 1
    seeds: int = 5
    steps: int = 500
    reference: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least('--seeds', self.seeds, 2)
        check_at_least('--steps', self.steps, 1)
        check_at_least('--reference', self.reference, 2)

    def decisive(self) -> dict[str, Any]:
        """What decides the records, as plain data; a resumed study must have the same."""
        return {
            'seeds': self.seeds,
            'steps': self.steps,
            'reference': self.reference,
            'methods': list(METHODS),
            **self.measuring(),
        }

    def command(self) -> str:
        """The command that makes this study in one process."""
        flags = self.decisive()
        del flags['methods']
        return study_command('compare_methods.py', self.work_dir, **flags)

    def search(self, method: str, seed: int, device: torch.device) -> SearchSettings:
        """Of one of the searches, which go on where they are; in the folder of the study."""
        return SearchSettings(
            work_dir=str(Path(self.work_dir) / 'searches' / f'{method}-{seed}'),
            data=self.data,
            img_size=self.img_size,
            batch_size=self.batch_size,
            repeat=self.repeat,
            seed=seed,
            device=str(device),
            method=method,
            steps=self.steps,
            resume=True,
        )


def run_comparison(settings: CompareSettings, tools: Path = Path('tools')) -> dict[str, Any] | None:
    """Compare the methods, or go on with that, and write records, report, table and picture.

    With a launcher each process takes its share of the random seeds, then whole searches, then their
    results; the first writes the report when all are done.

    Args:
        tools: folder of the tools, for the commands that the searches print.

    Returns:
        the content of report.json; None in the other processes.

    Raises:
        InputError: a user's mistake; nothing has been measured, or no network of a search could be.
        KeyboardInterrupt: Ctrl-C; says how far the study is and how to go on.
    """
    share, device = take_share(settings)
    seeds = search_seeds_of(settings.decisive())
    measures = [prepare(settings.search('random', seed, device))[1] for seed in seeds]
    reference = draw_seeds(settings.reference, (settings.seed, *REFERENCE_STREAM))
    study = {
        'settings': settings.decisive(),
        'versions': settings.versions(),
        'architectures': [{'arch': str(arch)} for arch in reference],
    }
    folder = StudyFolder(settings.work_dir, study, fixed=settings.reference)
    open_study(folder, settings, share)
    searches = [settings.search(method, seed, device) for seed in seeds for method in METHODS]

    def complete(index: int) -> dict[str, Any]:
        arch = folder.study['architectures'][index]['arch']
        return {'index': index, 'arch': arch, **measure_by_all(measures, Architecture.parse(arch))}

    def so_far() -> str:
        found = sum((Path(search.work_dir) / 'result.json').exists() for search in searches)
        return f'{len(folder.done())} records and {found} of {len(searches)} searches'

    with resumable(so_far, f'{settings.command()} --resume'):
        complete_records(folder, share, complete, _describe)
        _search(searches, share, tools)
        wait_for_all(share, 'searches')
        found = [_read(search) for search in searches]
        if share.rank == 0:
            folder.add(str(search['arch']) for search in found)
        wait_for_all(share, 'results')
        folder.join()
        complete_records(folder, share, complete, _describe)
        wait_for_all(share, 'records')
    return _report(settings, folder, found) if share.rank == 0 else None


def measure_by_all(
    measures: list[ComplexityMeasure], arch: Architecture
) -> dict[str, list[dict[str, Any]]]:
    """The architecture with the images and curves of every search seed and weights that none drew."""
    return {'measured': [measured_fields(next(measure([(arch, FRESH)]))) for measure in measures]}


def _search(searches: list[SearchSettings], share: Share, tools: Path) -> None:
    """Run this process's searches that are not complete; what they print goes into a log of each."""
    for i in share.of(len(searches)):
        search = searches[i]
        log = Path(f'{search.work_dir}.log')
        log.parent.mkdir(parents=True, exist_ok=True)
        with own_share(), log.open('a', encoding='utf-8') as file, redirect_stdout(file):
            result = run_search(search, tools)
        print(f'{relative(Path(search.work_dir))}: {result["arch"]}', flush=True)


def _read(search: SearchSettings) -> dict[str, Any]:
    """What the report needs of a complete search."""
    path = Path(search.work_dir)
    trace, timing = (
        [json.loads(line) for line in (path / name).read_text(encoding='utf-8').splitlines()]
        for name in ('trace.jsonl', 'timing.jsonl')
    )
    return {
        'method': search.method,
        'seed': search.seed,
        'arch': json.loads((path / 'result.json').read_text(encoding='utf-8'))['arch'],
        'trace': trace,
        'seconds': round(sum(line['seconds'] for line in timing), 3),
    }


def _describe(record: Mapping[str, Any]) -> str:
    first = record['measured'][0]
    length, kappa = (figure(first[name]) for name in ('length_distortion', 'ntk_condition_number'))
    return f'{record["arch"]}  L^E {length}  kappa {kappa}'


def _report(
    settings: CompareSettings, folder: StudyFolder, searches: list[dict[str, Any]]
) -> dict[str, Any]:
    summary = summarise_comparison(folder.study, folder.read_all(), searches)
    picture = plot_comparison(summary, folder.path / 'comparison.png')
    text = atomic_write_text(
        folder.path / 'report.md', comparison_report(summary, settings.command())
    )
    # Last: that it is there says that the study is complete.
    result = atomic_write_json(folder.path / 'report.json', summary)
    rows = {
        method['method']: f'best so far {method["mean"]["best_at_marks"][-1]:.1f}, result '
        f'{method["mean"]["score"]:.1f} ± {method["std"]["score"]:.1f} (score: 50 is a random seed)'
        for method in summary['methods']
    }
    print_summary({**rows, 'written': ', '.join(map(relative, (result, text, picture)))})
    return summary
