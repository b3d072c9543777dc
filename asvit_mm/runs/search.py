"""A whole seed search: measure, learn, write the seed's config (As-ViT, section 3.3)."""

import json
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from ..arch import Architecture
from ..config_writer.configs import train_command
from ..config_writer.naming import RunConfigs
from ..cost import count_macs, count_params
from ..data.source import DataSource
from ..errors import InputError
from ..nas import (
    METHODS,
    Choices,
    Latency,
    Memo,
    Reinforce,
    SearchMethod,
    SharedMeasure,
    WithinLatency,
    measured_fields,
    result_of,
    search_seeds,
)
from ..report.plots import plot_search
from ..report.report import write_search_report
from ..utils.units import format_count
from .folder import RunFolder
from .limits import check_latency, read_budget, read_latency
from .progress import Screen, figure, print_summary
from .resume import known, open_folder, recorded, resumable, resume_command
from .settings import SearchSettings
from .setup import prepare, relative
from .together import lead


def run_search(settings: SearchSettings, tools: Path = Path('tools')) -> dict[str, Any]:
    """Search a seed, or go on with a search, and write trace, result, config and picture.

    Everything is written into the work dir; its trace has a line a step. A search that is complete
    is not done again.

    Args:
        tools: folder of the tools, for the commands that are printed.

    Returns:
        the content of result.json.

    Raises:
        InputError: a user's mistake (nothing has been measured), or no network could be measured.
        KeyboardInterrupt: Ctrl-C while measuring; says how far the search is and how to go on. What
            is found by then is in so_far.json, its configs are written.
    """
    return lead(settings, partial(_run, settings, tools))


def _run(settings: SearchSettings, tools: Path) -> dict[str, Any]:
    data, measure = prepare(settings)
    budget = read_budget(settings, data, settings.max_params)
    choices = budget.choices()
    check_latency(settings, data, budget.smallest_seeds(), 'the smallest seeds')
    folder = open_folder(
        settings, 'search', max_params=budget.max_params, max_flops=budget.max_macs
    )
    command = resume_command(settings, tools / 'search.py')
    with folder, resumable(lambda: _so_far(folder, settings.steps), command):
        result = folder.read_result()
        if result is not None:
            print(f'the search in {relative(folder.path)} is complete: its result')
        else:
            if folder.resumed:
                print(f'resumed: {len(folder.kept)} of {settings.steps} steps are done')
            result = _search(settings, data, choices, SharedMeasure(measure), folder)
    config = relative(folder.path / result['config'])
    print_summary(
        {
            'architecture': result['arch'],
            **cost_rows(result),
            'length distortion': f'{figure(result["length_distortion"])} (higher is better)',
            'NTK condition number': f'{figure(result["ntk_condition_number"])} (lower is better)',
            'time': f'{folder.seconds:.1f} s for {settings.steps} steps',
            'written': ', '.join(
                map(relative, (folder.result, folder.trace, folder.path / 'report.html'))
            )
            + f', {config}, {relative(folder.path / result["detection_config"])}',
            'train it': train_command(
                config, data, python=relative(Path(sys.executable)), tools=relative(tools)
            ),
        }
    )
    return result


def _search(
    settings: SearchSettings,
    data: DataSource,
    choices: Choices,
    shared: SharedMeasure,
    folder: RunFolder,
) -> dict[str, Any]:
    """Work through the steps, those of the trace without measuring, and write the result."""
    remembered = known(folder.kept, remeasure=settings.remeasure)
    latency = read_latency(settings, data, folder.kept)
    measure = Memo(
        shared if latency is None else WithinLatency(shared, latency),
        remeasure=settings.remeasure,
        known=remembered,
    )
    method = METHODS[settings.method](choices, seed=settings.seed)
    policies = [method.probabilities] if isinstance(method, Reinforce) else []
    try:
        with Screen('search', settings.steps).shown() as screen:
            for record in search_seeds(method, measure, settings.steps):
                folder.append(record)
                if isinstance(method, Reinforce):
                    policies.append(method.probabilities)
                if not folder.replaying:
                    screen.update(
                        record['step'] + 1,
                        f'{record["best"]}  L^E {figure(record["length_distortion"])}  '
                        f'kappa {figure(record["ntk_condition_number"])}',
                    )
        found = _found(method, latency, folder)
        evaluations = measure.measured
        measured = measured_fields(next(measure([found]))[0])
        plot_search(folder.records, folder.path / 'search.png')
        fields = _write_configs(found, settings, data, folder)
        result = {
            'arch': str(found),
            **measured,
            **fields,
            'steps': settings.steps,
            'measured_architectures': evaluations,
        }
        work_dir = relative(folder.path)
        write_search_report(work_dir, {**result, **folder.run}, folder.records, data, policies)
        return folder.write_result(result)
    except KeyboardInterrupt:
        # Nothing was found where no network could be measured.
        with suppress(InputError):
            if folder.records and not folder.replaying:
                so_far = _found(method, latency, folder)
                fields = _write_configs(so_far, settings, data, folder)
                folder.write_so_far({**fields, 'steps': len(folder.records)})
        raise


def _found(method: SearchMethod, latency: Latency | None, folder: RunFolder) -> Architecture:
    """What the search has found by now.

    Raises:
        InputError: no network could be measured, or none is fast enough.
    """
    networks = dict.fromkeys(Architecture.parse(record['arch']) for record in folder.records)
    found = result_of(method, networks, latency)
    if all(record['ntk_condition_number'] is None for record in folder.records):
        bad = next(r['bad'] for r in folder.records if recorded(r).refused is None)
        raise InputError(
            f'no network of the {len(folder.records)} steps could be measured ({bad}): '
            'try a larger --batch-size or --img-size'
        )
    return found


def _write_configs(
    found: Architecture, settings: SearchSettings, data: DataSource, folder: RunFolder
) -> dict[str, Any]:
    """Write the configs of what was found; the part of the result that says what it is."""
    configs = RunConfigs(data, progressive=settings.progressive, folder=relative(folder.configs))
    names = configs.add(found)
    folder.write_configs(configs.texts)
    return {'arch': str(found), **costs(found, data), **names}


def _so_far(folder: RunFolder, steps: int) -> str:
    found = f', best so far in {relative(folder.so_far)}' if folder.so_far.exists() else ''
    return f'{len(folder.records)} of {steps} steps{found}'


def costs(arch: Architecture, data: DataSource) -> dict[str, int]:
    """Parameters and multiply-adds of the classifier that the config trains, as plain data."""
    return {
        'params': count_params(arch, data.num_classes, img_size=data.img_size),
        'macs': count_macs(arch, data.img_size, data.num_classes),
        'num_classes': data.num_classes,
        'train_img_size': data.img_size,
    }


def cost_rows(cost: dict[str, Any]) -> dict[str, str]:
    """The lines about costs of a printed summary."""
    return {
        'parameters': f'{cost["params"]:,} with a head of {cost["num_classes"]} classes',
        'multiply-adds': f'{format_count(cost["macs"])} an image of '
        f'{cost["train_img_size"]}x{cost["train_img_size"]} pixels',
        **({'latency': f'{cost["latency_ms"]:g} ms an image'} if 'latency_ms' in cost else {}),
    }


def found_seed(path: Path) -> str | None:
    """The architecture in a result.json, or None where the file is no result."""
    try:
        arch = json.loads(path.read_text(encoding='utf-8')).get('arch')
    except (OSError, ValueError, AttributeError):
        return None
    return arch if isinstance(arch, str) else None
