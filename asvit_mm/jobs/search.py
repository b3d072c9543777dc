"""A whole seed search: measure, learn, write the seed's config (As-ViT, section 3.3)."""

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..arch import Architecture
from ..cost import count_macs, count_params
from ..errors import InputError
from ..search import ReinforceSearch, measured_fields
from ..units import format_count
from ..writing import DataSource, config_name, config_text, plot_search, train_command
from .folder import RunFolder
from .screen import Screen, figure, print_summary
from .setup import MeasuringSettings, check_at_least, find_device, prepare, relative, versions


@dataclass(frozen=True, kw_only=True)
class SearchSettings(MeasuringSettings):
    """Settings of a search.

    Args:
        steps: architectures to measure.
    """

    steps: int = 500

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least('--steps', self.steps, 1)


def run_search(settings: SearchSettings, tools: Path = Path('tools')) -> dict[str, Any]:
    """Search a seed and write trace, result, config and picture into the work dir.

    Args:
        tools: folder of the training tool, for the command that is printed.

    Returns:
        the content of result.json.

    Raises:
        InputError: a user's mistake (nothing has been measured), or no network could be measured.
    """
    started = time.perf_counter()
    data, measure = prepare(settings)
    search = ReinforceSearch(measure, seed=settings.seed)
    trace = []
    with RunFolder(settings.work_dir, settings.overwrite) as folder:
        with Screen('search', settings.steps).shown() as screen:
            for _ in range(settings.steps):
                begin = time.perf_counter()
                record = search.step()
                record['seconds'] = round(time.perf_counter() - begin, 3)
                folder.append(record)
                trace.append(record)
                screen.update(
                    search.steps_done,
                    f'{record["most_likely"]}  L^E {figure(record["length_distortion"])}  '
                    f'kappa {figure(record["ntk_condition_number"])}',
                )
        if all(record['ntk_condition_number'] is None for record in trace):
            raise InputError(
                f'no network of the {settings.steps} steps could be measured ({trace[-1]["bad"]}): '
                'try a larger --batch-size or --img-size'
            )
        found = search.most_likely
        name = config_name('seed', data, settings.progressive)
        path = folder.configs / name
        text = config_text(found, data, progressive=settings.progressive, path=relative(path))
        result = {
            'task': 'search',
            'arch': str(found),
            **measured_fields(measure(found, settings.steps)),
            **costs(found, data),
            'config': f'configs/{name}',
            'steps': settings.steps,
            'seconds': round(time.perf_counter() - started, 1),
            'settings': {**asdict(settings), 'img_size': settings.pixels},
            'versions': versions(find_device(settings.device)),
        }
        plot_search(trace, folder.path / 'search.png')
        folder.write_configs({name: text})
        folder.write_result(result)
    print_summary(
        {
            'architecture': str(found),
            **cost_rows(result),
            'length distortion': f'{figure(result["length_distortion"])} (higher is better)',
            'NTK condition number': f'{figure(result["ntk_condition_number"])} (lower is better)',
            'time': f'{result["seconds"]:.1f} s for {settings.steps} steps',
            'written': ', '.join(
                relative(p) for p in (folder.result, folder.trace, folder.path / 'search.png', path)
            ),
            'train it': train_command(
                relative(path), data, python=relative(Path(sys.executable)), tools=relative(tools)
            ),
        }
    )
    return result


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
