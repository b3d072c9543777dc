"""A whole scaling run: a seed becomes a series of networks, each with a config.

Source: As-ViT (arXiv 2202.11921), section 3.4.
"""

import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..arch import Architecture, as_architecture
from ..cost import count_params
from ..errors import InputError
from ..search import AutoScaling
from ..units import format_count, parse_count
from ..writing import config_name, config_text, plot_scaling, train_command
from .folder import RunFolder
from .screen import Screen, figure, print_summary
from .search import cost_rows, costs, found_seed
from .setup import MeasuringSettings, find_device, prepare, relative, versions


@dataclass(frozen=True, kw_only=True)
class ScaleSettings(MeasuringSettings):
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
    """Scale a seed and write trace, result, configs and picture into the work dir.

    Args:
        tools: folder of the training tool, for the command that is printed.

    Returns:
        the content of result.json.

    Raises:
        InputError: a user's mistake (nothing has been measured), or no candidate of the first step
            could be measured.
    """
    started = time.perf_counter()
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
    texts: dict[str, str] = {}
    with RunFolder(settings.work_dir, settings.overwrite) as folder:
        with Screen('scaling', smallest, counts=False).shown() as screen:
            best = f'{scaling.start}  {format_count(scaling.count(scaling.start))}'

            def report(candidate: dict[str, Any]) -> None:
                params = scaling.series[-1]['params'] if scaling.series else 0
                screen.update(params, f'{best}  (measured {candidate["arch"]})')

            begin = time.perf_counter()
            while (member := scaling.step(report)) is not None:
                arch = as_architecture(member['arch'])
                name = config_name(f'step{member["step"]:02d}', data, settings.progressive)
                texts[name] = config_text(
                    arch,
                    data,
                    progressive=settings.progressive,
                    path=relative(folder.configs / name),
                )
                member.update(
                    costs(arch, data),
                    config=f'configs/{name}',
                    seconds=round(time.perf_counter() - begin, 3),
                )
                folder.append(member)
                best = f'{arch}  {format_count(member["params"])}'
                screen.update(
                    member['params'],
                    f'{best}  L^E {figure(member["length_distortion"])}  '
                    f'kappa {figure(member["ntk_condition_number"])}',
                )
                begin = time.perf_counter()
        if not scaling.series:
            raise InputError(f'{scaling.stopped}: try a larger --batch-size or --img-size')
        series = [
            {key: value for key, value in member.items() if key != 'candidates'}
            for member in scaling.series
        ]
        last = series[-1]
        result = {
            'task': 'scale',
            'arch': last['arch'],
            'topology': str(topology),
            'series': series,
            'reached': scaling.reached,
            'stopped': scaling.stopped,
            'min_params': smallest,
            'max_params': largest,
            'seconds': round(time.perf_counter() - started, 1),
            'settings': {**asdict(settings), 'img_size': settings.pixels},
            'versions': versions(find_device(settings.device)),
        }
        picture = plot_scaling(scaling.series, folder.path / 'scaling.png', smallest, largest)
        folder.write_configs(texts)
        folder.write_result(result)
    print_series(series)
    config = folder.path / last['config']
    print_summary(
        {
            'architecture': last['arch'],
            **cost_rows(last),
            'stopped': str(scaling.stopped),
            'time': f'{result["seconds"]:.1f} s for a series of {len(series)}',
            'written': ', '.join(map(relative, (folder.result, folder.trace, picture))),
            'configs': f'{len(series)} in {relative(folder.configs)}, the last one is trained with',
            'train it': train_command(
                relative(config), data, python=relative(Path(sys.executable)), tools=relative(tools)
            ),
        }
    )
    return result


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
