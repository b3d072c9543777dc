"""A whole seed search: measure, learn, write the seed's config (As-ViT, section 3.3)."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..arch import Architecture
from ..cost import count_macs, count_params
from ..errors import InputError
from ..search import Measure, ReinforceSearch, measured_fields
from ..units import format_count
from ..writing import DataSource, config_name, config_text, plot_search, train_command
from .folder import RunFolder
from .resume import RunSettings, open_folder, recalling, resumable
from .screen import Screen, figure, print_summary
from .setup import check_at_least, prepare, relative


@dataclass(frozen=True, kw_only=True)
class SearchSettings(RunSettings):
    """Settings of a search.

    Args:
        steps: architectures to measure.
    """

    steps: int = 500

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least('--steps', self.steps, 1)


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
        KeyboardInterrupt: Ctrl-C while measuring; says how far the search is and how to go on.
    """
    data, measure = prepare(settings)
    folder = open_folder(settings, 'search')
    command = settings.command(tools / 'search.py')
    with folder, resumable(lambda: _so_far(folder, settings.steps), command):
        result = folder.read_result()
        if result is not None:
            print(f'the search in {relative(folder.path)} is complete: its result')
        else:
            if folder.resumed:
                print(f'resumed: {len(folder.kept)} of {settings.steps} steps are done')
            result = _search(settings, data, measure, folder)
    config = relative(folder.path / result['config'])
    print_summary(
        {
            'architecture': result['arch'],
            **cost_rows(result),
            'length distortion': f'{figure(result["length_distortion"])} (higher is better)',
            'NTK condition number': f'{figure(result["ntk_condition_number"])} (lower is better)',
            'time': f'{folder.seconds:.1f} s for {settings.steps} steps',
            'written': ', '.join(
                map(relative, (folder.result, folder.trace, folder.path / 'search.png'))
            )
            + f', {config}',
            'train it': train_command(
                config, data, python=relative(Path(sys.executable)), tools=relative(tools)
            ),
        }
    )
    return result


def _search(
    settings: SearchSettings,
    data: DataSource,
    measure: Measure,
    folder: RunFolder,
) -> dict[str, Any]:
    """Work through the steps, those of the trace without measuring, and write the result."""
    search = ReinforceSearch(recalling(measure, folder.kept), seed=settings.seed)
    with Screen('search', settings.steps).shown() as screen:
        for _ in range(settings.steps):
            record = search.step()
            folder.append(record)
            if not folder.replaying:
                screen.update(
                    search.steps_done,
                    f'{record["most_likely"]}  L^E {figure(record["length_distortion"])}  '
                    f'kappa {figure(record["ntk_condition_number"])}',
                )
    if all(record['ntk_condition_number'] is None for record in folder.records):
        bad = folder.records[-1]['bad']
        raise InputError(
            f'no network of the {settings.steps} steps could be measured ({bad}): '
            'try a larger --batch-size or --img-size'
        )
    found = search.most_likely
    measured = measured_fields(measure(found, settings.steps))
    name = config_name('seed', data, settings.progressive)
    path = relative(folder.configs / name)
    plot_search(folder.records, folder.path / 'search.png')
    folder.write_configs(
        {name: config_text(found, data, progressive=settings.progressive, path=path)}
    )
    return folder.write_result(
        {
            'arch': str(found),
            **measured,
            **costs(found, data),
            'config': f'configs/{name}',
            'steps': settings.steps,
        }
    )


def _so_far(folder: RunFolder, steps: int) -> str:
    done = folder.records
    found = f', most likely so far {done[-1]["most_likely"]}' if done else ''
    return f'{len(done)} of {steps} steps{found}'


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
    }


def found_seed(path: Path) -> str | None:
    """The architecture in a result.json, or None where the file is no result."""
    try:
        arch = json.loads(path.read_text(encoding='utf-8')).get('arch')
    except (OSError, ValueError, AttributeError):
        return None
    return arch if isinstance(arch, str) else None
