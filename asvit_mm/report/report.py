"""The report of a run: one self-contained HTML page, for readers who do not know the paper.

This module gathers numbers, commands and figures; all wording is in report.html.j2. The page depends on
the run's result only, not on when or how fast it was obtained. It links to the run's other files by names
relative to it.
"""

import base64
import math
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ..arch import PRESETS, SEARCH_SPACE, Architecture, SearchSpace
from ..config_writer.configs import train_command
from ..cost import count_macs, count_params, stage_macs, token_grids
from ..data.source import DataSource
from ..tokens import window_count, window_length
from ..utils.files import atomic_write_text
from ..utils.units import format_count
from .architecture import plot_architecture
from .plots import plot_front, plot_measured, plot_policy, plot_race

Record = Mapping[str, Any]
# What scaling takes from the result of a search.
REMEMBERED = (
    *('data', 'img_size', 'max_params', 'max_flops'),
    *('max_latency', 'latency_runtime'),
)


def write_search_report(
    work_dir: str,
    result: Record,
    records: Sequence[Record],
    data: DataSource,
    space: SearchSpace = SEARCH_SPACE,
    policies: Sequence[Sequence[Sequence[float]]] = (),
    points: Sequence[tuple[float, float]] = (),
) -> Path:
    """Write report.html of a search, and its figures beside it.

    Args:
        work_dir: the run's folder, as the printed commands name it; search.png is in it.
        result: the whole content of result.json.
        records: of trace.jsonl.
        data: what the config trains on.
        space: that was searched.
        policies: see :func:`~.plots.plot_policy`; none where the method has no policy.
        points: that the front is drawn among, see :func:`~.plots.plot_front`.
    """
    folder, settings = Path(work_dir), result['settings']
    plot_measured(records, result, folder / 'measured.png')
    if policies:
        plot_policy(policies, space, folder / 'policy.png')
    archs = {record['arch'] for record in records}
    # A network over the latency limit is timed and not measured.
    slow = [r for r in records if r.get('latency_ms', 0) > (settings['max_latency'] or math.inf)]
    others = {r['arch']: r for r in records if r['arch'] != result['arch'] and _measured(r)}
    comparison = None
    if others and _measured(result):
        length, kappa = result['length_distortion'], result['ntk_condition_number']
        comparison = {
            'others': len(others),
            'lower_length': sum(r['length_distortion'] < length for r in others.values()),
            'higher_kappa': sum(r['ntk_condition_number'] > kappa for r in others.values()),
        }
    return _write(
        work_dir,
        result,
        result,
        data,
        figures=('search', 'policy', 'measured') if policies else ('search', 'measured'),
        points=points,
        steps=len(records),
        different=len(archs),
        space=space.size,
        slow_networks=len({record['arch'] for record in slow}),
        slow_steps=len(slow),
        invalid_steps=sum(not _measured(record) for record in records) - len(slow),
        comparison=comparison,
        published_seen=str(PRESETS['seed']) in archs,
        # Scaling measures with the same settings; the others it does not have, or takes from the result.
        scale_command=_command(
            ('tools/scale.py', f'{work_dir}/result.json'),
            settings,
            left_out=('steps', 'method', 'base_stride', *REMEMBERED),
        ),
    )


def write_scale_report(
    work_dir: str,
    result: Record,
    records: Sequence[Record],
    data: DataSource,
    points: Sequence[tuple[float, float]] = (),
) -> Path:
    """Write report.html of a scaling run, like :func:`write_search_report`; scaling.png is in the folder."""
    # A result of an earlier format does not hold the costs of its network.
    largest = result if 'config' in result else result['series'][-1]
    size, classes = largest['train_img_size'], largest['num_classes']
    published = [
        {
            'name': f'As-ViT-{name.capitalize()}',
            'arch': str(PRESETS[name]),
            'params': count_params(PRESETS[name], classes, img_size=size),
            'macs': count_macs(PRESETS[name], size, classes),
        }
        for name in ('small', 'base', 'large')
    ]
    return _write(
        work_dir,
        result,
        largest,
        data,
        figures=('scaling',),
        points=points,
        candidates=sum('candidate' in record for record in records),
        series=result['series'],
        targets=result.get('targets') or [],
        published=published,
    )


def _write(
    work_dir: str,
    result: Record,
    network: Record,
    data: DataSource,
    figures: Sequence[str],
    points: Sequence[tuple[float, float]],
    **context: Any,
) -> Path:
    """Write the page of a run whose main result is ``network``."""
    folder, arch = Path(work_dir), Architecture.parse(network['arch'])
    plot_architecture(arch, network['train_img_size'], folder / 'architecture.png')
    race, front = result.get('race'), result.get('front') or []
    further = []
    if race is not None:
        plot_race(race, folder / 'race.png')
        further.append('race')
    if points:
        score = r'mean percentile by $L^E$ and $\kappa$'
        label = score if race is None else 'accuracy in round 1 (%)'
        plot_front(points, front, label, folder / 'front.png')
        further.append('front')
    names = [f'{name}.png' for name in (*figures, *further, 'architecture')]
    grids = [rows for rows, _ in token_grids(network['train_img_size'], arch.stride)]
    windows = [window_length(*sizes) for sizes in zip(grids, arch.splits, strict=True)]
    counts = [window_count(*sizes) ** 2 for sizes in zip(grids, windows, strict=True)]
    macs = stage_macs(arch, network['train_img_size'])
    settings = result['settings']
    topology = [settings['arch']] if 'arch' in settings else []
    environment = Environment(
        loader=PackageLoader('asvit_mm', 'report'),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters['count'] = format_count
    text = environment.get_template('report.html.j2').render(
        **context,
        result=result,
        network=network,
        race=race,
        front=front,
        budget=result.get('budget') or [],
        seed_form=arch.seed_form,
        figures={name: base64.b64encode((folder / name).read_bytes()).decode() for name in names},
        stages=list(zip(grids, windows, counts, arch.depths, arch.widths, macs, strict=True)),
        head_macs=network['macs'] - sum(stage.total for stage in macs),
        train_command=train_command(f'{work_dir}/{network["config"]}', data),
        data_note=data.note,
        run_command=_command(
            (f'tools/{result["task"]}.py', *topology, '--work-dir', work_dir),
            settings,
            # The tool takes either targets or a minimum and a maximum.
            left_out=('arch', *(('min_params', 'max_params') if settings.get('targets') else ())),
        ),
    )
    return atomic_write_text(folder / 'report.html', text)


def _measured(record: Record) -> bool:
    """Whether a record has both measures."""
    return None not in (record['length_distortion'], record['ntk_condition_number'])


def _command(words: Sequence[str], settings: Record, left_out: Collection[str]) -> str:
    """The command of a tool with every setting of run.json as a flag, but those ``left_out``."""
    words = list(words)
    for name, value in settings.items():
        if name in left_out or value is None or value is False:
            continue
        words.append(f'--{name.replace("_", "-")}')
        if value is not True:
            words += map(str, value if isinstance(value, list) else [value])
    return shlex.join(['python', *words])
