"""Export formats side by side: size, difference from eager torch, time and accuracy, in one run."""

import tempfile
from pathlib import Path
from typing import Any

import torch

from ..engine.models import build_model, load_model_config
from ..errors import InputError
from ..export.accuracy import build_loader, count_right
from ..export.export import WARMUP, checked_shapes, example_images, largest_difference
from ..export.formats import FORMATS, require_packages
from ..export.network import load_weights, prepare_network
from ..export.settings import ExportSettings
from ..utils.files import write_figures
from ..utils.timing import device_name, median_and_spread, time_in_turn
from ..zoo.index import fetch, find
from .benchmark import print_progress
from .settings import FormatSettings
from .tables import markdown_table


def run_formats(settings: FormatSettings) -> dict[str, Any]:
    """Export classifiers of the zoo to each format, measure all files, and print a table in Markdown.

    Eager torch and the files of a model are timed in turn, so that their times can be compared. A model
    without weights is timed with random ones, and has no accuracy.

    Returns:
        Plain data: ``device``, ``torch``, ``rounds``, and for each file of ``files`` the model, the format,
        ``bytes``, ``difference`` (the largest), ``ms`` and, in per cent, ``top1``; ``format`` is 'eager' for
        torch itself.

    Raises:
        InputError: a model that the zoo does not have, packages or a test set that are not there.
    """
    torch.set_num_threads(settings.threads or 1)
    for form in settings.formats:
        require_packages(form)
    for name in settings.models:
        if not find(name).classifies:
            raise InputError(f'{name} is no classifier: of others only backbones are exported')
    files = [one for name in settings.models for one in _measure(name, settings)]
    result = {
        'device': device_name('cpu'),
        'torch': str(torch.__version__),
        'rounds': settings.rounds,
        'files': files,
    }
    eager = {one['model']: one['ms'] for one in files if one['format'] == 'eager'}
    rows = [
        {
            'Model': f'{one["model"]}, {one["size"]}',
            'Format': one['format'],
            'MB': '-' if one['bytes'] is None else f'{one["bytes"] / 1e6:.1f}',
            'Difference': f'{one["difference"]:.1e}',
            'ms': f'{one["ms"]:.3g}',
            'Speed': f'{eager[one["model"]] / one["ms"]:.2f}',
            'Top-1': '-' if one['top1'] is None else f'{one["top1"]:.2f}',
        }
        for one in files
    ]
    print(markdown_table(rows))
    write_figures(settings.json, result)
    return result


def _measure(name: str, settings: FormatSettings) -> list[dict[str, Any]]:
    """The figures of eager torch and of each file of one model."""
    model = find(name)
    config, weights = fetch(name) if model.weights else (str(model.config), None)
    cfg = load_model_config(config)
    network = prepare_network(cfg, build_model(cfg, config), ExportSettings(config))
    loader = build_loader(cfg, network) if weights else None
    if weights:
        load_weights(network, weights)
    images = example_images(network, (1, network.channels, *network.size))
    shapes = checked_shapes(network)
    calls: list[Any] = [network]
    sizes: list[int | None] = [None]
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        for form in settings.formats:
            print_progress(f'{name}: {form}')
            path = Path(folder) / form / f'network{FORMATS[form].suffix}'
            path.parent.mkdir()
            FORMATS[form].write(network, {}, path)
            calls.append(FORMATS[form].read(path))
            sizes.append(sum(file.stat().st_size for file in path.parent.iterdir()))
        timed = [lambda call=call: call(images) for call in calls]
        time_in_turn(timed, 'cpu', WARMUP)
        taken = time_in_turn(timed, 'cpu', settings.rounds, print_progress)
        right = count_right(loader, calls, network) if loader else None
        tested = len(loader.dataset) if loader else 0  # type: ignore[arg-type]
        return [
            {
                'model': name,
                'size': network.size[0],
                'format': form,
                'bytes': sizes[i],
                'difference': largest_difference(network, calls[i], shapes),
                'ms': 1e3 * median_and_spread(taken[i])[0],
                'top1': 100 * right[i] / tested if right else None,
            }
            for i, form in enumerate(('eager', *settings.formats))
        ]
