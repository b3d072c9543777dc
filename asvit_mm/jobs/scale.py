"""A whole scaling run: a seed becomes a series of networks, each with a config.

Source: As-ViT (arXiv 2202.11921), section 3.4.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..arch import Architecture, as_architecture
from ..cost import count_params
from ..errors import InputError
from ..search import AutoScaling
from ..units import format_count, parse_count
from ..writing import DataSource, config_name, config_text, plot_scaling, train_command
from .folder import RunFolder
from .resume import RunSettings, open_folder, recalling, resumable
from .screen import Screen, figure, print_summary
from .search import cost_rows, costs, found_seed
from .setup import prepare, relative


@dataclass(frozen=True, kw_only=True)
class ScaleSettings(RunSettings):
    """Settings of a scaling run.

    Args:
        arch: architecture string, preset, or the result.json of a search; its kernels, splits,
            expansions and heads are what is scaled.
        min_params: growing stops at the first network with at least this many ('80M').
        max_params: no network has more ('110M').
    """

    arch: str
    min_params: str = '80M'
    max_params: str = '110M'


def run_scaling(settings: ScaleSettings, tools: Path = Path('tools')) -> dict[str, Any]:
    """Scale a seed, or go on with that, and write trace, result, configs and picture.

    Everything is written into the work dir; its trace has a line a candidate (with ``candidate``, its
    number in the step) and after those of a step a line with the member that it adds to the series.
    A run that is complete is not done again.

    Args:
        tools: folder of the tools, for the commands that are printed.

    Returns:
        the content of result.json.

    Raises:
        InputError: a user's mistake (nothing has been measured), or no candidate of the first step
            could be measured.
        KeyboardInterrupt: Ctrl-C while measuring; says how far the run is and how to go on.
    """
    topology = read_topology(settings.arch)
    smallest, largest = parse_count(settings.min_params), parse_count(settings.max_params)
    data, measure = prepare(settings)
    scaling = AutoScaling(
        topology,
        measure,
        lambda arch: count_params(arch, data.num_classes, img_size=data.img_size),
        min_params=smallest,
        max_params=largest,
    )
    folder = open_folder(
        settings, 'scale', arch=str(topology), min_params=smallest, max_params=largest
    )
    command = settings.command(tools / 'scale.py', 'arch')
    with folder, resumable(lambda: _so_far(folder), command):
        result = folder.read_result()
        if result is not None:
            print(f'the scaling run in {relative(folder.path)} is complete: its result')
        else:
            candidates = [record for record in folder.kept if 'candidate' in record]
            if folder.resumed:
                steps = len(folder.kept) - len(candidates)
                print(f'resumed: {steps} steps are done, {len(candidates)} candidates measured')
            scaling.measure = recalling(measure, candidates)
            result = _scale(settings, data, scaling, folder)
    series = result['series']
    print_series(series)
    last = series[-1]
    print_summary(
        {
            'architecture': last['arch'],
            **cost_rows(last),
            'stopped': str(result['stopped']),
            'time': f'{folder.seconds:.1f} s for a series of {len(series)}',
            'written': ', '.join(
                map(relative, (folder.result, folder.trace, folder.path / 'scaling.png'))
            ),
            'configs': f'{len(series)} in {relative(folder.configs)}, the last one is trained with',
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
    scaling: AutoScaling,
    folder: RunFolder,
) -> dict[str, Any]:
    """Work through the steps, what the trace has without measuring, and write the result."""
    texts: dict[str, str] = {}
    best = f'{scaling.start}  {format_count(scaling.count(scaling.start))}'
    with Screen('scaling', scaling.min_params, counts=False).shown() as screen:

        def show(text: str) -> None:
            if not folder.replaying:
                params = scaling.series[-1]['params'] if scaling.series else 0
                screen.update(params, f'{best}  {text}')

        def report(candidate: dict[str, Any]) -> None:
            folder.append(candidate)
            show(f'(measured {candidate["arch"]})')

        while (member := scaling.step(report)) is not None:
            arch = as_architecture(member['arch'])
            name = config_name(f'step{member["step"]:02d}', data, settings.progressive)
            member.update(costs(arch, data), config=f'configs/{name}')
            folder.append(member)
            texts[name] = config_text(
                arch, data, progressive=settings.progressive, path=relative(folder.configs / name)
            )
            best = f'{arch}  {format_count(member["params"])}'
            show(
                f'L^E {figure(member["length_distortion"])}  '
                f'kappa {figure(member["ntk_condition_number"])}'
            )
    if not scaling.series:
        raise InputError(f'{scaling.stopped}: try a larger --batch-size or --img-size')
    series = [
        {key: value for key, value in member.items() if key != 'candidates'}
        for member in scaling.series
    ]
    plot_scaling(
        scaling.series, folder.path / 'scaling.png', scaling.min_params, scaling.max_params
    )
    folder.write_configs(texts)
    return folder.write_result(
        {
            'arch': series[-1]['arch'],
            'topology': str(scaling.topology),
            'series': series,
            'reached': scaling.reached,
            'stopped': scaling.stopped,
            'min_params': scaling.min_params,
            'max_params': scaling.max_params,
        }
    )


def _so_far(folder: RunFolder) -> str:
    members = [record for record in folder.records if 'candidate' not in record]
    found = f', largest network so far {members[-1]["arch"]}' if members else ''
    return f'{len(members)} steps and {len(folder.records) - len(members)} candidates{found}'


def read_topology(spec: str) -> Architecture:
    """The seed to scale from a string, a preset or the result.json of a search.

    Raises:
        InputError: a malformed architecture, or a file that is no result.
    """
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
