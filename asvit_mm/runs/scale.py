"""A whole scaling run: a seed becomes a series of networks, each with a config.

Source: As-ViT (arXiv 2202.11921), section 3.4.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..arch import Architecture, as_architecture
from ..errors import InputError
from ..nas import AutoScaling, Candidate, Member, measure_proxies
from ..report.plots import plot_scaling
from ..report.report import write_scale_report
from ..utils.files import relative
from ..utils.units import format_count, parse_count
from .progress import format_value, show_progress
from .results import Network, ScaleResult, network_record, read_scale_result, read_seed
from .run import Run, read_budget, run_on_main_rank
from .settings import MAX_PARAMS, MIN_PARAMS, ScaleSettings, as_count


def run_scaling(settings: ScaleSettings, tools: Path = Path('tools')) -> ScaleResult:
    """Scale a seed, or resume that, and write trace, result, configs and report into the work dir.

    The trace has a line per candidate (with ``candidate``, its number in the step) and after those of a step
    a line with the member that it adds to the series. With targets the lines of each scaling, from the
    smallest on, have ``target``; the series of the result is that of the largest. A run that is complete is
    not done again.

    Args:
        tools: folder of the tools, for the commands that are printed.

    Raises:
        InputError: a mistake in the settings (nothing has been measured), or no candidate of the first step
            could be measured.
        KeyboardInterrupt: Ctrl-C while measuring; says how far the run is and how to go on. The series
            by then is in so_far.json, its configs are written.
    """
    run_on_main_rank(_Scale, settings, tools)
    return read_scale_result(Path(settings.work_dir))


def read_topology(spec: str | Architecture) -> Architecture:
    """The seed to scale from an architecture, its string, a preset or the result.json of a search.

    Raises:
        InputError: a malformed architecture, or a file that is not a result.
    """
    spec = str(spec)
    if spec.endswith('.json'):
        spec = read_seed(Path(spec))
    return as_architecture(spec).seed


@dataclass
class _Scaling:
    """One scaling of a run.

    Attributes:
        target: parameters that it grows to, at most; None in a run without targets.
        series: records of its members so far, for the result.
    """

    auto: AutoScaling
    target: int | None
    series: list[dict[str, Any]] = field(default_factory=list)

    @property
    def aim(self) -> int:
        """Parameters at which it ends, as the progress bar counts."""
        return self.auto.min_params or self.target or 0

    def mark(self, record: dict[str, Any]) -> dict[str, Any]:
        """``record``, for the trace or the result, with the target if there is one."""
        return record if self.target is None else {'target': self.target, **record}


class _Scale(Run[ScaleSettings]):
    TASK = 'scale'

    def __init__(self, settings: ScaleSettings, tools: Path) -> None:
        topology = read_topology(settings.arch)
        super().__init__(settings, tools)
        self.measure = partial(measure_proxies, self.measure)
        targets: list[int | None] = [*sorted({parse_count(str(t)) for t in settings.targets})]
        maximum = MAX_PARAMS if settings.max_params is None else settings.max_params
        minimum = as_count(MIN_PARAMS if settings.min_params is None else settings.min_params)
        # In ascending order; they share what they measure.
        self.scalings = [
            _Scaling(
                AutoScaling(
                    topology,
                    read_budget(settings, maximum if target is None else target),
                    min_params=minimum if target is None else None,
                ),
                target,
            )
            for target in targets or [None]
        ]
        self.largest = self.scalings[-1].auto

    def fingerprint(self) -> dict[str, Any]:
        targets = [scaling.target for scaling in self.scalings if scaling.target is not None]
        return {
            **super().fingerprint(),
            'arch': str(self.largest.topology),
            'min_params': self.largest.min_params,
            'max_params': None if targets else self.largest.budget.max_params,
            'targets': targets or None,
        }

    def smallest(self) -> tuple[list[Architecture], str]:
        auto = self.scalings[0].auto
        return sorted(auto.affordable(), key=auto.budget.macs)[:4], 'the smallest candidates'

    def progress(self, records: Sequence[Mapping[str, Any]]) -> str:
        candidates = sum('candidate' in record for record in records)
        return f'{len(records) - candidates} steps and {candidates} candidates'

    def take_steps(self) -> dict[str, Any]:
        total, before = sum(s.aim for s in self.scalings), 0
        with show_progress('scaling', total, counts=False) as show:
            for scaling in self.scalings:
                self._grow(scaling, show, before)
                before += scaling.aim
        plot_scaling(
            [member.to_record(candidates=True) for member in self.largest.series],
            self.folder.path / 'scaling.png',
            self.largest.min_params,
            self.largest.budget.max_params,
        )
        result = self._result(self.scalings)
        work_dir, records = relative(self.folder.path), self.folder.records
        write_scale_report(work_dir, {**result, **self.folder.run}, records, self.data)
        return result

    def partial_result(self) -> dict[str, Any] | None:
        grown = [scaling for scaling in self.scalings if scaling.series]
        return self._result(grown) if grown else None

    def print_result(self) -> None:
        result = read_scale_result(self.folder.path)
        _print_series(result.series)
        for target, best in result.targets.items():
            print(
                f'at most {target:,}: {best.architecture} with {best.params:,} parameters, '
                f'{relative(best.config)}'
            )
        configs = self.folder.configs
        rows = {
            'stopped': result.stopped,
            'time': f'{self.folder.seconds:.1f} s for a series of {len(result.series)}',
            'configs': f'{len(list(configs.glob("asvit-*")))} and as many for mmdet in '
            f'{relative(configs)}, the last one is trained with',
        }
        self.print_rows(result, rows)

    def _grow(self, scaling: _Scaling, show: Callable[[float, str], None], before: int) -> None:
        """Take all steps of one scaling.

        Args:
            show: the progress bar.
            before: what the bar showed at the end of the scaling before.
        """
        auto, folder = scaling.auto, self.folder

        def shown(text: str) -> None:
            if not folder.replaying:
                best, params = auto.current, auto.budget.params(auto.current)
                done = before + params if auto.series else before
                show(done, f'{best}  {format_count(params)}  {text}')

        def report(number: int, candidate: Candidate) -> None:
            record = {'step': len(auto.series) + 1, 'candidate': number, **candidate.to_record()}
            folder.append(scaling.mark(record))
            shown(f'(measured {candidate.arch})')

        while (member := auto.step(self.memo, report)) is not None:
            self._append(scaling, member)
            length, kappa = map(format_value, member.chosen.measurement.values)
            shown(f'L^E {length}  kappa {kappa}')
        if not auto.series:
            if self.latency is not None:
                self.latency.within_limit(auto.affordable(), 'all candidates of the first step')
            raise InputError(f'{auto.stopped}: try a larger --batch-size or --img-size')

    def _append(self, scaling: _Scaling, member: Member) -> None:
        network = network_record(member.chosen.arch, self.configs)
        self.folder.append(scaling.mark({**member.to_record(candidates=True), **network}))
        scaling.series.append({**member.to_record(), **network})

    def _result(self, scalings: Sequence[_Scaling]) -> dict[str, Any]:
        """The result of ``scalings``, in ascending order; the last one gives the series."""
        last = scalings[-1]
        auto = last.auto
        result = {
            'arch': last.series[-1]['arch'],
            'topology': str(auto.topology),
            'series': last.series,
        }
        if last.target is not None:
            result['targets'] = [scaling.mark(scaling.series[-1]) for scaling in scalings]
        return {
            **result,
            'reached': auto.reached,
            'stopped': auto.stopped,
            'measured_architectures': self.memo.measured,
            'min_params': auto.min_params,
            'max_params': auto.budget.max_params,
        }


def _print_series(series: Sequence[Network]) -> None:
    widest = max(len(str(member.architecture)) for member in series)
    print(f'{"step":>4}  {"architecture":<{widest}}  {"params":>8}  {"L^E":>9}  {"kappa":>9}')
    for step, member in enumerate(series, 1):
        length, kappa = (
            format_value(member.length_distortion),
            format_value(member.ntk_condition_number),
        )
        arch, params = str(member.architecture), format_count(member.params)
        print(f'{step:>4}  {arch:<{widest}}  {params:>8}  {length:>9}  {kappa:>9}')
