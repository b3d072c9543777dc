"""A whole scaling run: a seed becomes a series of networks, each with a config.

Source: As-ViT (arXiv 2202.11921), section 3.4.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..arch import Architecture, as_architecture
from ..config_writer.configs import train_command
from ..config_writer.naming import RunConfigs
from ..data.source import DataSource
from ..errors import InputError
from ..nas import (
    AutoScaling,
    Candidate,
    Latency,
    Member,
    Memo,
    SharedMeasure,
    WithinLatency,
)
from ..nas.scaling import ProxyMeasure
from ..report.plots import plot_scaling
from ..report.report import write_scale_report
from ..utils.files import relative
from ..utils.units import format_count, parse_count
from .folder import RunFolder
from .progress import Screen, figure, print_summary
from .results import Network, ScaleResult, cost_rows, network_record, read_scale_result, read_seed
from .settings import MAX_PARAMS, MIN_PARAMS, ScaleSettings, as_count
from .setup import (
    check_latency,
    known_measurements,
    open_folder,
    prepare,
    read_budget,
    read_latency,
    resumable,
    resume_command,
    run_on_main_rank,
)


@dataclass
class _Scaling:
    """One scaling of a run.

    Attributes:
        target: number of parameters that it grows to; None in a run without targets.
        written: members of the series that are in the trace.
    """

    auto: AutoScaling
    target: int | None
    written: list[Member] = field(default_factory=list)

    @property
    def aim(self) -> int:
        """Parameters at which it ends, for the progress bar."""
        return self.auto.min_params or self.target or 0

    def mark(self, record: dict[str, Any]) -> dict[str, Any]:
        """``record`` of the trace or the result, with the target."""
        return record if self.target is None else {'target': self.target, **record}


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
    run_on_main_rank(settings, partial(_run, settings, tools))
    return read_scale_result(Path(settings.work_dir))


def _run(settings: ScaleSettings, tools: Path) -> None:
    topology = read_topology(settings.arch)
    data, measure = prepare(settings)
    shared = ProxyMeasure(SharedMeasure(measure))
    scalings = _scalings(settings, topology, data, Memo(shared))
    first = _affordable(scalings[0].auto)
    check_latency(settings, data, first[:4], 'the smallest candidates')
    largest = scalings[-1].auto
    folder = open_folder(
        settings,
        'scale',
        arch=str(topology),
        min_params=largest.min_params,
        max_params=None if settings.targets else largest.budget.max_params,
        targets=[scaling.target for scaling in scalings] if settings.targets else None,
    )
    command = resume_command(settings, tools / 'scale.py')
    with folder, resumable(lambda: _so_far(folder), command):
        if folder.is_complete():
            print(f'the scaling run in {relative(folder.path)} is complete: its result')
        else:
            candidates = [record for record in folder.kept if 'candidate' in record]
            if folder.resumed:
                steps = len(folder.kept) - len(candidates)
                print(f'resumed: {steps} steps and {len(candidates)} candidates are done')
            known = known_measurements(candidates, remeasure=settings.remeasure)
            latency = read_latency(settings, data, known)
            memo = Memo(
                shared if latency is None else WithinLatency(shared, latency),
                remeasure=settings.remeasure,
                known=known,
            )
            scalings = _scalings(settings, topology, data, memo)
            _scale(settings, data, scalings, latency, folder)
        _print_result(data, folder, tools)


def _scalings(
    settings: ScaleSettings, topology: Architecture, data: DataSource, memo: Memo
) -> list[_Scaling]:
    """One scaling per target, ascending; without targets the only one. They share what they measure.

    Raises:
        InputError: a limit is not a positive number, or no network is within the limits.
    """
    targets = sorted({parse_count(str(target)) for target in settings.targets})
    if targets:
        budgets = [read_budget(settings, data, target) for target in targets]
        return [
            _Scaling(AutoScaling(topology, memo, budget), budget.max_params) for budget in budgets
        ]
    minimum = as_count(MIN_PARAMS if settings.min_params is None else settings.min_params)
    maximum = MAX_PARAMS if settings.max_params is None else settings.max_params
    budget = read_budget(settings, data, maximum)
    return [_Scaling(AutoScaling(topology, memo, budget, min_params=minimum), None)]


def _scale(
    settings: ScaleSettings,
    data: DataSource,
    scalings: Sequence[_Scaling],
    latency: Latency | None,
    folder: RunFolder,
) -> None:
    """Take all steps, those of the trace without measuring, and write the result."""
    configs = RunConfigs(data, progressive=settings.progressive, folder=relative(folder.configs))
    largest = scalings[-1].auto
    try:
        with Screen('scaling', sum(s.aim for s in scalings), counts=False).shown() as screen:
            for i, scaling in enumerate(scalings):
                before = sum(s.aim for s in scalings[:i])
                _grow(scaling, configs, latency, folder, partial(_show, screen, before))
        plot_scaling(
            [member.to_record(candidates=True) for member in largest.series],
            folder.path / 'scaling.png',
            largest.min_params,
            largest.budget.max_params,
        )
        folder.write_configs(configs.texts)
        result = _result(scalings, configs)
        write_scale_report(relative(folder.path), {**result, **folder.run}, folder.records, data)
        folder.write_result(result)
    except KeyboardInterrupt:
        grown = [scaling for scaling in scalings if scaling.written]
        if grown and not folder.replaying:
            result = _result(grown, configs)
            folder.write_configs(configs.texts)
            folder.write_so_far(result)
        raise


def _grow(
    scaling: _Scaling,
    configs: RunConfigs,
    latency: Latency | None,
    folder: RunFolder,
    show: Callable[[AutoScaling, str], None],
) -> None:
    """Take all steps of one scaling."""
    auto = scaling.auto

    def report(number: int, candidate: Candidate) -> None:
        record = {'step': len(auto.series) + 1, 'candidate': number, **candidate.to_record()}
        folder.append(scaling.mark(record))
        if not folder.replaying:
            show(auto, f'(measured {candidate.arch})')

    while (member := auto.step(report)) is not None:
        network = network_record(member.chosen.arch, configs)
        folder.append(scaling.mark({**member.to_record(candidates=True), **network}))
        scaling.written.append(member)
        if not folder.replaying:
            length, kappa = map(figure, member.chosen.measurement.values)
            show(auto, f'L^E {length}  kappa {kappa}')
    if not auto.series:
        if latency is not None:
            latency.within_limit(_affordable(auto), 'all candidates of the first step')
        raise InputError(f'{auto.stopped}: try a larger --batch-size or --img-size')


def _show(screen: Screen, before: int, auto: AutoScaling, text: str) -> None:
    """Move the bar on; ``before``: parameters that earlier scalings grew to."""
    if not auto.series:
        screen.update(
            before, f'{auto.start}  {format_count(auto.budget.params(auto.start))}  {text}'
        )
        return
    best = auto.series[-1].chosen
    screen.update(before + best.params, f'{best.arch}  {format_count(best.params)}  {text}')


def _result(scalings: Sequence[_Scaling], configs: RunConfigs) -> dict[str, Any]:
    """The result of the scalings, of which the last one is the largest, as plain data."""
    series = [
        [{**m.to_record(), **network_record(m.chosen.arch, configs)} for m in scaling.written]
        for scaling in scalings
    ]
    largest = scalings[-1].auto
    result = {
        'arch': series[-1][-1]['arch'],
        'topology': str(largest.topology),
        'series': series[-1],
    }
    if scalings[-1].target is not None:
        best = zip(scalings, series, strict=True)
        result['targets'] = [scaling.mark(members[-1]) for scaling, members in best]
    return {
        **result,
        'reached': largest.reached,
        'stopped': largest.stopped,
        'measured_architectures': largest.measure.measured,
        'min_params': largest.min_params,
        'max_params': largest.budget.max_params,
    }


def _affordable(auto: AutoScaling) -> list[Architecture]:
    """The next candidates within the budget, in the order of their multiply-adds."""
    return sorted(filter(auto.budget.fits, auto.larger_networks()), key=auto.budget.macs)


def _so_far(folder: RunFolder) -> str:
    members = [record for record in folder.records if 'candidate' not in record]
    found = f', the series so far in {relative(folder.so_far)}' if folder.so_far.exists() else ''
    return f'{len(members)} steps and {len(folder.records) - len(members)} candidates{found}'


def read_topology(spec: str | Architecture) -> Architecture:
    """The seed to scale from an architecture, its string, a preset or the result.json of a search.

    Raises:
        InputError: a malformed architecture, or a file that is not a result.
    """
    spec = str(spec)
    if spec.endswith('.json'):
        arch = read_seed(Path(spec))
        if arch is None:
            raise InputError(f'{spec!r} is no result of a search: give its result.json')
        spec = arch
    return as_architecture(spec).seed


def _print_result(data: DataSource, folder: RunFolder, tools: Path) -> None:
    result = read_scale_result(folder.path)
    print_series(result.series)
    for target, best in result.targets.items():
        print(
            f'at most {target:,}: {best.architecture} with {best.params:,} parameters, '
            f'{relative(best.config)}'
        )
    print_summary(
        {
            'architecture': str(result.architecture),
            **cost_rows(result),
            'stopped': result.stopped,
            'time': f'{folder.seconds:.1f} s for a series of {len(result.series)}',
            'written': ', '.join(map(relative, (folder.result, folder.trace, folder.report))),
            'configs': f'{len(list(folder.configs.glob("asvit-*")))} and as many for mmdet in '
            f'{relative(folder.configs)}, the last one is trained with',
            'train it': train_command(
                relative(result.config),
                data,
                python=relative(Path(sys.executable)),
                tools=relative(tools),
            ),
        }
    )


def print_series(series: Sequence[Network]) -> None:
    """Print the networks of the series, one per line."""
    widest = max(len(str(member.architecture)) for member in series)
    print(f'{"step":>4}  {"architecture":<{widest}}  {"params":>8}  {"L^E":>9}  {"kappa":>9}')
    for step, member in enumerate(series, 1):
        length, kappa = figure(member.length_distortion), figure(member.ntk_condition_number)
        arch, params = str(member.architecture), format_count(member.params)
        print(f'{step:>4}  {arch:<{widest}}  {params:>8}  {length:>9}  {kappa:>9}')
