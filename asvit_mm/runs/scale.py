"""A whole scaling run: a seed becomes a series of networks, each with a config.

Source: As-ViT (arXiv 2202.11921), section 3.4.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..arch import Architecture, as_architecture
from ..config_writer.configs import train_command
from ..config_writer.naming import RunConfigs
from ..data.source import DataSource
from ..errors import InputError
from ..nas import AutoScaling, Budget, Memo, SharedMeasure
from ..report.plots import plot_scaling
from ..report.report import write_scale_report
from ..utils.units import format_count, parse_count
from .folder import RunFolder
from .limits import check_latency, read_budget, read_latency
from .progress import Screen, figure, print_summary
from .resume import known, open_folder, recorded, resumable, resume_command
from .search import cost_rows, costs, found_seed
from .settings import MAX_PARAMS, MIN_PARAMS, ScaleSettings
from .setup import prepare, relative
from .together import lead


def run_scaling(settings: ScaleSettings, tools: Path = Path('tools')) -> dict[str, Any]:
    """Scale a seed, or go on with that, and write trace, result, configs and picture.

    Everything is written into the work dir; its trace has a line a candidate (with ``candidate``, its
    number in the step) and after those of a step a line with the member that it adds to the series.
    With targets the scaling of each, from the smallest on, has its lines, with ``target``; those of the
    largest are the result's series. A run that is complete is not done again.

    Args:
        tools: folder of the tools, for the commands that are printed.

    Returns:
        the content of result.json.

    Raises:
        InputError: a user's mistake (nothing has been measured), or no candidate of the first step
            could be measured.
        KeyboardInterrupt: Ctrl-C while measuring; says how far the run is and how to go on. The series
            by then is in so_far.json, its configs are written.
    """
    return lead(settings, partial(_run, settings, tools))


def _run(settings: ScaleSettings, tools: Path) -> dict[str, Any]:
    topology = read_topology(settings.arch)
    data, measure = prepare(settings)
    shared = SharedMeasure(measure)
    targets, minimum, budgets = read_budgets(settings, data)
    runs = [AutoScaling(topology, Memo(shared), b, min_params=minimum) for b in budgets]
    check_latency(settings, data, _affordable(runs[0])[:4], 'the smallest candidates')
    folder = open_folder(
        settings,
        'scale',
        arch=str(topology),
        min_params=minimum,
        max_params=None if targets else budgets[0].max_params,
        max_flops=budgets[0].max_macs,
        targets=targets or None,
    )
    command = resume_command(settings, tools / 'scale.py')
    with folder, resumable(lambda: _so_far(folder), command):
        result = folder.read_result()
        if result is not None:
            print(f'the scaling run in {relative(folder.path)} is complete: its result')
        else:
            candidates = [record for record in folder.kept if 'candidate' in record]
            if folder.resumed:
                steps = len(folder.kept) - len(candidates)
                print(f'resumed: {steps} steps and {len(candidates)} candidates are done')
            measured = [record for record in candidates if recorded(record).refused is None]
            remembered = known(measured, name='proxy', remeasure=settings.remeasure)
            memo = Memo(shared, remeasure=settings.remeasure, known=remembered)
            latency = read_latency(settings, data, candidates)
            for scaling in runs:
                scaling.measure, scaling.latency = memo, latency
            result = _scale(settings, data, runs, folder)
    series = result['series']
    print_series(series)
    for best in result.get('targets', ()):
        print(
            f'at most {best["target"]:,}: {best["arch"]} with {best["params"]:,} parameters, '
            f'{best["config"]}'
        )
    last = series[-1]
    print_summary(
        {
            'architecture': last['arch'],
            **cost_rows(last),
            'stopped': str(result['stopped']),
            'time': f'{folder.seconds:.1f} s for a series of {len(series)}',
            'written': ', '.join(
                map(relative, (folder.result, folder.trace, folder.path / 'report.html'))
            ),
            'configs': f'{len(list(folder.configs.glob("asvit-*")))} and as many for mmdet in '
            f'{relative(folder.configs)}, the last one is trained with',
            'train it': train_command(
                relative(folder.path / last['config']),
                data,
                python=relative(Path(sys.executable)),
                tools=relative(tools),
            ),
        }
    )
    return result


def _scale(
    settings: ScaleSettings,
    data: DataSource,
    runs: Sequence[AutoScaling],
    folder: RunFolder,
) -> dict[str, Any]:
    """Work through the steps, those of the trace without measuring, and write the result."""
    configs = RunConfigs(data, progressive=settings.progressive, folder=relative(folder.configs))
    aims = [scaling.min_params or scaling.budget.max_params or 0 for scaling in runs]
    try:
        with Screen('scaling', sum(aims), counts=False).shown() as screen:
            for i, scaling in enumerate(runs):
                mark = {'target': scaling.budget.max_params} if settings.targets else {}
                _grow(scaling, data, configs, folder, mark, partial(_show, screen, sum(aims[:i])))
        plot_scaling(
            runs[-1].series,
            folder.path / 'scaling.png',
            runs[-1].min_params,
            runs[-1].budget.max_params,
        )
        folder.write_configs(configs.texts)
        result = _result(runs, settings.targets)
        write_scale_report(relative(folder.path), {**result, **folder.run}, folder.records, data)
        return folder.write_result(result)
    except KeyboardInterrupt:
        grown = [scaling for scaling in runs if _members(scaling)]
        if grown and not folder.replaying:
            folder.write_configs(configs.texts)
            folder.write_so_far(_result(grown, settings.targets))
        raise


def _grow(
    scaling: AutoScaling,
    data: DataSource,
    configs: RunConfigs,
    folder: RunFolder,
    mark: dict[str, Any],
    show: Callable[[AutoScaling, str], None],
) -> None:
    """Take all steps of one scaling; every record of the trace begins with ``mark``."""

    def report(candidate: dict[str, Any]) -> None:
        folder.append({**mark, **candidate})
        if not folder.replaying:
            show(scaling, f'(measured {candidate["arch"]})')

    while (member := scaling.step(report)) is not None:
        arch = as_architecture(member['arch'])
        member.update(costs(arch, data), **configs.add(arch))
        folder.append({**mark, **member})
        if not folder.replaying:
            length, kappa = (
                figure(member[name]) for name in ('length_distortion', 'ntk_condition_number')
            )
            show(scaling, f'L^E {length}  kappa {kappa}')
    if not scaling.series:
        if scaling.latency is not None:
            scaling.latency.keeping(_affordable(scaling), 'all candidates of the first step')
        raise InputError(f'{scaling.stopped}: try a larger --batch-size or --img-size')


def _show(screen: Screen, before: int, scaling: AutoScaling, text: str) -> None:
    best = as_architecture(scaling.series[-1]['arch']) if scaling.series else scaling.start
    params = scaling.budget.params(best)
    done = params if scaling.series else 0
    screen.update(before + done, f'{best}  {format_count(params)}  {text}')


def _result(runs: Sequence[AutoScaling], targets: Sequence[str | int]) -> dict[str, Any]:
    """The result of the scalings, of which the last one is the largest, as plain data."""
    largest = runs[-1]
    series = _members(largest)
    best = [{'target': scaling.budget.max_params, **_members(scaling)[-1]} for scaling in runs]
    return {
        'arch': series[-1]['arch'],
        'topology': str(largest.topology),
        'series': series,
        **({'targets': best} if targets else {}),
        'reached': largest.reached,
        'stopped': largest.stopped,
        'measured_architectures': largest.measure.measured,
        'min_params': largest.min_params,
        'max_params': largest.budget.max_params,
    }


def _members(scaling: AutoScaling) -> list[dict[str, Any]]:
    """The series without its candidates, and without a member that Ctrl-C has left without configs."""
    return [
        {key: value for key, value in member.items() if key != 'candidates'}
        for member in scaling.series
        if 'config' in member
    ]


def read_budgets(
    settings: ScaleSettings, data: DataSource
) -> tuple[list[int], int | None, list[Budget]]:
    """The limits of each scaling of a run.

    Returns:
        the targets, ascending, none twice; parameters at which growing stops, None with targets; and a
        budget for each target, or the only one.

    Raises:
        InputError: a limit that is no positive number.
    """
    if not settings.targets:
        minimum, maximum = (
            default if value is None else value
            for value, default in (
                (settings.min_params, MIN_PARAMS),
                (settings.max_params, MAX_PARAMS),
            )
        )
        return [], parse_count(str(minimum)), [read_budget(settings, data, maximum)]
    targets = sorted({parse_count(str(target)) for target in settings.targets})
    return targets, None, [read_budget(settings, data, str(target)) for target in targets]


def _affordable(scaling: AutoScaling) -> list[Architecture]:
    """The first step's candidates within the budget, those of few multiply-adds first."""
    return sorted(filter(scaling.budget.fits, scaling.first), key=scaling.budget.macs)


def _so_far(folder: RunFolder) -> str:
    members = [record for record in folder.records if 'candidate' not in record]
    found = f', the series so far in {relative(folder.so_far)}' if folder.so_far.exists() else ''
    return f'{len(members)} steps and {len(folder.records) - len(members)} candidates{found}'


def read_topology(spec: str | Architecture) -> Architecture:
    """The seed to scale from an architecture, its string, a preset or the result.json of a search.

    Raises:
        InputError: a malformed architecture, or a file that is no result.
    """
    spec = str(spec)
    if spec.endswith('.json'):
        arch = found_seed(Path(spec))
        if arch is None:
            raise InputError(f'{spec!r} is no result of a search: give its result.json')
        spec = arch
    return as_architecture(spec).seed


def print_series(series: list[dict[str, Any]]) -> None:
    """Print the networks of the series, one a line."""
    widest = max(len(member['arch']) for member in series)
    print(f'{"step":>4}  {"architecture":<{widest}}  {"params":>8}  {"L^E":>9}  {"kappa":>9}')
    for member in series:
        params = format_count(member['params'])
        length, kappa = (
            figure(member[name]) for name in ('length_distortion', 'ntk_condition_number')
        )
        arch = member['arch']
        print(f'{member["step"]:>4}  {arch:<{widest}}  {params:>8}  {length:>9}  {kappa:>9}')
