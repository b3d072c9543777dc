"""A whole seed search: measure, learn, write the config of the seed.

Source: As-ViT (arXiv 2202.11921), section 3.3.
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from ..arch import Architecture
from ..config_writer.configs import train_command
from ..config_writer.naming import RunConfigs
from ..data.source import DataSource
from ..errors import InputError
from ..nas import (
    METHODS,
    Budget,
    ComplexityMeasure,
    Latency,
    Memo,
    Reinforce,
    SearchMethod,
    SharedMeasure,
    Step,
    WithinLatency,
    iterate_search,
    result_of,
)
from ..report.plots import plot_search
from ..report.report import write_search_report
from ..utils.files import relative
from .folder import RunFolder
from .progress import Screen, figure, print_summary
from .results import SearchResult, cost_rows, network_record, read_search_result
from .settings import SearchSettings
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


def run_search(settings: SearchSettings, tools: Path = Path('tools')) -> SearchResult:
    """Search a seed, or resume a search, and write trace, result, configs and report into the work dir.

    The trace has a line per step. A search that is complete is not done again.

    Args:
        tools: folder of the tools, for the commands that are printed.

    Raises:
        InputError: a mistake in the settings (nothing has been measured), or no network could be measured.
        KeyboardInterrupt: Ctrl-C while measuring; says how far the search is and how to go on. What
            is found by then is in so_far.json, its configs are written.
    """
    run_on_main_rank(settings, partial(_run, settings, tools))
    return read_search_result(Path(settings.work_dir))


def _run(settings: SearchSettings, tools: Path) -> None:
    if settings.method not in METHODS:
        raise InputError(
            f'--method {settings.method!r} is not known: choose from {", ".join(METHODS)}'
        )
    data, measure = prepare(settings)
    budget = read_budget(settings, data, settings.max_params)
    budget.choices()  # refuses a budget that no seed is within
    check_latency(settings, data, budget.smallest_seeds(), 'the smallest seeds')
    folder = open_folder(settings, 'search')
    command = resume_command(settings, tools / 'search.py')
    with folder, resumable(lambda: _so_far(folder, settings.steps), command):
        if folder.is_complete():
            print(f'the search in {relative(folder.path)} is complete: its result')
        else:
            if folder.resumed:
                print(f'resumed: {len(folder.kept)} of {settings.steps} steps are done')
            _search(settings, data, measure, budget, folder)
        _print_result(settings, data, folder, tools)


def _search(
    settings: SearchSettings,
    data: DataSource,
    measure: ComplexityMeasure,
    budget: Budget,
    folder: RunFolder,
) -> None:
    """Take all steps, those of the trace without measuring, and write the result."""
    known = known_measurements(folder.kept, remeasure=settings.remeasure)
    latency = read_latency(settings, data, known)
    shared = SharedMeasure(measure)
    memo = Memo(
        shared if latency is None else WithinLatency(shared, latency),
        remeasure=settings.remeasure,
        known=known,
    )
    method = METHODS[settings.method](budget.choices(), seed=settings.seed)
    policies = [method.probabilities] if isinstance(method, Reinforce) else []
    steps: list[Step] = []
    try:
        with Screen('search', settings.steps).shown() as screen:
            for step in iterate_search(method, memo, settings.steps):
                folder.append(step.to_record())
                steps.append(step)
                if isinstance(method, Reinforce):
                    policies.append(method.probabilities)
                if not folder.replaying:
                    length, kappa = map(figure, step.measurement.values)
                    text = f'{step.best}  L^E {length}  kappa {kappa}'
                    screen.update(step.number + 1, text)
        found = _found(method, steps, latency)
        measured_architectures = memo.measured
        ((measurement, _),) = memo([found])
        plot_search(folder.records, folder.path / 'search.png')
        result = {
            'arch': str(found),
            **measurement.to_record(),
            **_write_configs(found, settings, data, folder),
            'steps': settings.steps,
            'measured_architectures': measured_architectures,
        }
        work_dir = relative(folder.path)
        write_search_report(work_dir, {**result, **folder.run}, folder.records, data, policies)
        folder.write_result(result)
    except KeyboardInterrupt:
        # Nothing is found if no network could be measured.
        with suppress(InputError):
            if folder.records and not folder.replaying:
                found = _found(method, steps, latency)
                network = _write_configs(found, settings, data, folder)
                folder.write_so_far({'arch': str(found), **network, 'steps': len(folder.records)})
        raise


def _found(method: SearchMethod, steps: Sequence[Step], latency: Latency | None) -> Architecture:
    """What the search has found by now.

    Raises:
        InputError: no network could be measured, or all are too slow.
    """
    found = result_of(method, dict.fromkeys(step.arch for step in steps), latency)
    measurements = [step.measurement for step in steps]
    if all(measurement.values[1] is None for measurement in measurements):
        problem = next(m.problem for m in measurements if m.refused is None)
        raise InputError(
            f'no network of the {len(steps)} steps could be measured ({problem}): '
            'try a larger --batch-size or --img-size'
        )
    return found


def _write_configs(
    found: Architecture, settings: SearchSettings, data: DataSource, folder: RunFolder
) -> dict[str, Any]:
    """Write the configs of what was found; the part of the result that describes the network."""
    configs = RunConfigs(data, progressive=settings.progressive, folder=relative(folder.configs))
    network = network_record(found, configs)
    folder.write_configs(configs.texts)
    return network


def _so_far(folder: RunFolder, steps: int) -> str:
    found = f', best so far in {relative(folder.so_far)}' if folder.so_far.exists() else ''
    return f'{len(folder.records)} of {steps} steps{found}'


def _print_result(
    settings: SearchSettings, data: DataSource, folder: RunFolder, tools: Path
) -> None:
    found = read_search_result(folder.path)
    config = relative(found.config)
    written = (folder.result, folder.trace, folder.report, found.config, found.detection_config)
    print_summary(
        {
            'architecture': str(found.architecture),
            **cost_rows(found),
            'length distortion': f'{figure(found.length_distortion)} (higher is better)',
            'NTK condition number': f'{figure(found.ntk_condition_number)} (lower is better)',
            'time': f'{folder.seconds:.1f} s for {settings.steps} steps',
            'written': ', '.join(map(relative, written)),
            'train it': train_command(
                config, data, python=relative(Path(sys.executable)), tools=relative(tools)
            ),
        }
    )
