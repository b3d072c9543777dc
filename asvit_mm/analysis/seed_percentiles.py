"""Where named seeds stand among random ones, and what repeats buy: draw, measure, report."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..arch import Architecture
from ..engine.distributed import wait_for_all
from ..errors import InputError
from ..measures import SEARCH_MEASURES
from ..nas import ComplexityMeasure
from ..nas.evaluator import usable
from ..runs.progress import figure, print_summary
from ..runs.scale import read_topology
from ..runs.settings import check_at_least
from ..runs.setup import prepare, resumable
from ..utils.files import atomic_write_json, atomic_write_text, relative
from ..utils.identity import read_object
from . import StudyFolder, draw_seeds, standing_report, summarise_standing
from .settings import (
    MeasuringStudySettings,
    complete_records,
    open_study,
    study_command,
    take_share,
)
from .standing import pair_of
from .standing_plots import plot_repeats, plot_standing

# Added to the study's seed for its images, curves and weights: a network that a search chose for what it
# measured must be judged by draws that the search has not seen.
HELD_OUT = 1_000_000


@dataclass(frozen=True, kw_only=True)
class StandingSettings(MeasuringStudySettings):
    """Settings of the study.

    Args:
        archs: the named ones: presets, architecture strings or result.json files of searches, each also
            as NAME=ARCH; what is compared is their seed.
        num: random seeds.

    Raises:
        InputError: a value out of range.
    """

    archs: tuple[str, ...] = ('seed',)
    num: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least('--num', self.num, 2)

    @property
    def named(self) -> dict[str, Architecture]:
        """Name to seed, in the order given.

        Raises:
            InputError: a malformed architecture, a file that is no result, or one name for two.
        """
        found: dict[str, Architecture] = {}
        for given in self.archs:
            name, equals, spec = given.partition('=')
            arch = read_topology(spec if equals else given)
            if found.setdefault(name, arch) != arch:
                raise InputError(f'{name!r} names two architectures: give them different names')
        return found

    def decisive(self) -> dict[str, Any]:
        """What decides the records, as plain data; a resumed study must have the same."""
        return {'num': self.num, **self.measuring()}

    def command(self) -> str:
        """The command that makes this study in one process."""
        return study_command('seed_percentiles.py', self.work_dir, *self.archs, **self.decisive())


def run_standing(settings: StandingSettings) -> dict[str, Any] | None:
    """Run the study, or go on with one, and write records, report, table and pictures.

    Every network's values are kept. Architectures are independent: with a launcher each process takes its
    share of them, and the first writes the report when all are done. A study that is resumed may
    name other architectures; those that it lacks are measured then.

    Returns:
        the content of report.json; None in the other processes.

    Raises:
        InputError: a user's mistake; nothing has been measured.
        KeyboardInterrupt: Ctrl-C while measuring; says how far the study is and how to go on.
    """
    named = {name: str(arch) for name, arch in settings.named.items()}
    share, device = take_share(settings)
    run_seed = HELD_OUT + settings.seed
    _refuse_seen(settings.archs, run_seed)
    _, measure = prepare(replace(settings, device=str(device), seed=run_seed))
    random = [str(arch) for arch in draw_seeds(settings.num, settings.seed)]
    study = {
        'settings': settings.decisive(),
        'versions': settings.versions(),
        'run_seed': run_seed,
        'architectures': [{'arch': arch} for arch in dict.fromkeys([*random, *named.values()])],
    }
    folder = StudyFolder(settings.work_dir, study, fixed=settings.num)
    open_study(folder, settings, share)

    def complete(index: int) -> dict[str, Any]:
        arch = folder.study['architectures'][index]['arch']
        return {'index': index, 'arch': arch, **measure_networks(measure, Architecture.parse(arch))}

    def so_far() -> str:
        return f'{len(folder.done())} of {len(folder.study["architectures"])} architectures'

    with resumable(so_far, f'{settings.command()} --resume'):
        complete_records(folder, share, complete, _describe)
        wait_for_all(share, 'records')
    return _report(settings, folder, named) if share.rank == 0 else None


def measure_networks(measure: ComplexityMeasure, arch: Architecture) -> dict[str, Any]:
    """Every network's values, as a search with this measure obtains them; plain data.

    Returns:
        for each measure a value a network, or None; ``bad``: the reasons; ``seconds`` of each network.
    """
    values: dict[str, list[float | None]] = {name: [] for name in SEARCH_MEASURES}
    bad, seconds = [], []
    for r in range(measure.repeat):
        begin = time.perf_counter()
        scores = measure.network((arch, 0), r)
        seconds.append(round(time.perf_counter() - begin, 4))
        for name, score in scores.items():
            values[name].append(usable(score))
            if values[name][-1] is None:
                bad.append(f'network {r + 1}: {name}: {score.reason or "not finite"}')
    return {**values, 'bad': bad, 'seconds': seconds}


def _refuse_seen(archs: tuple[str, ...], run_seed: int) -> None:
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


def _describe(record: Mapping[str, Any]) -> str:
    length, kappa = pair_of(record)
    return f'{record["arch"]}  L^E {figure(length)}  kappa {figure(kappa)}'


def _report(
    settings: StandingSettings, folder: StudyFolder, named: Mapping[str, str]
) -> dict[str, Any]:
    summary = summarise_standing(folder.study, folder.read_all(), named)
    pictures = [plot_standing(summary, folder.path / 'scatter.png')]
    repeats = folder.path / 'repeats.png'
    if settings.repeat > 1:
        pictures.append(plot_repeats(summary, repeats))
    text = atomic_write_text(
        folder.path / 'report.md', standing_report(summary, settings.command())
    )
    # Last: that it is there says that the study is complete.
    result = atomic_write_json(folder.path / 'report.json', summary)
    rows = {
        one['name']: f'percentile of L^E {one["length_distortion"]["percentile"]:.1f}, of kappa '
        f'{one["ntk_condition_number"]["percentile"]:.1f}, of the rank sum '
        f'{one["rank_sum_percentile"]:.1f}'
        for one in summary['named']
    }
    files: list[Path] = [result, text, *pictures]
    print_summary({**rows, 'written': ', '.join(map(relative, files))})
    return summary
