"""The export job: write a config's model to a file, compare the file with eager torch, and time both."""

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..engine.models import build_model, load_model_config
from ..engine.options import parse_options
from ..errors import InputError
from ..utils.console import print_summary
from ..utils.files import atomic_file, check_writable, relative
from ..utils.timing import median_and_spread, time_in_turn
from .accuracy import build_loader, count_right
from .formats import FORMATS, INPUT, Exported, require_packages
from .network import LOGITS, ExportNetwork, load_weights, prepare_network
from .settings import ANY, ExportSettings

CHECKED_BATCHES = (2, 1, 3)
CALLS, WARMUP = 9, 2


def run_export(settings: ExportSettings) -> dict[str, Any]:
    """Export the model of a config, compare the file with eager torch, time both, and print a summary.

    Returns:
        Plain data: ``file``, ``bytes``, ``outputs`` (names and shapes), ``difference`` (the largest),
        ``eager_ms`` and ``exported_ms`` of a call; with ``evaluate`` also ``top1`` and ``eager_top1``, in per
        cent.

    Raises:
        InputError: a user's mistake, packages that are not installed, a model that cannot be traced, or a
            file whose outputs differ from eager torch's; then nothing is written.
    """
    require_packages(settings.format)
    cfg = load_model_config(settings.config, parse_options(settings.cfg_options))
    network = prepare_network(cfg, build_model(cfg, settings.config), settings)
    loader = build_loader(cfg, network) if settings.evaluate else None
    target = _find_target(network, settings)
    if settings.checkpoint is None:
        print(f'note: no CHECKPOINT: the weights of {settings.config} are random, for timing only')
    else:
        load_weights(network, settings.checkpoint)
    description = {
        'config': settings.config,
        'weights': settings.checkpoint or 'random',
        'input': network.describe_images(),
        'mean': network.pixels.mean or None,
        'std': network.pixels.std or None,
    }
    file_format, shapes = FORMATS[settings.format], checked_shapes(network)
    images = example_images(network, (settings.batch_size, network.channels, *network.size))
    with torch.no_grad(), atomic_file(target) as path:
        file_format.write(network, description, path)
        exported = file_format.read(path)
        difference = largest_difference(network, exported, shapes)
        if not difference <= settings.allowed:
            raise InputError(
                f'{target} would differ from eager torch by {difference:.2g}, more than --tolerance '
                f'{settings.allowed:g}: nothing is written'
            )
        calls = (lambda: network(images), lambda: exported(images))
        time_in_turn(calls, 'cpu', WARMUP)
        eager, other = (median_and_spread(s)[0] * 1e3 for s in time_in_turn(calls, 'cpu', CALLS))
        outputs, size = network(images), path.stat().st_size
        right = count_right(loader, (network, exported), network) if loader else None
        # The file itself comes last: without it the others are of no use.
        for suffix in file_format.companions:
            target.unlink(missing_ok=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            size += path.with_suffix(suffix).stat().st_size
            os.replace(path.with_suffix(suffix), target.with_suffix(suffix))
    height, width = network.size
    free = (f'{network.step}*h', f'{network.step}*w') if network.step else network.size
    maps = {n: ['batch', *m.shape[1:]] for n, m in zip(network.outputs, outputs, strict=True)}
    checked = ', '.join('x'.join(map(str, shape)) for shape in shapes)
    allowed = 'any' if settings.allowed == ANY else f'{settings.allowed:g}'
    rows = {
        'file': f'{relative(target)}, {size / 1e6:.1f} MB',
        'weights': str(description['weights']),
        'input': f'{_line(INPUT, ["batch", network.channels, *free])} float32: '
        f'{description["input"]}',
        'outputs': f'{", ".join(_line(*one) for one in maps.items())} at {height}x{width}',
        'difference': f'at most {difference:.1e} from eager torch (allowed: {allowed}), inputs {checked}',
        'time': f'eager torch {eager:.2f} ms, {file_format.runtime} {other:.2f} ms: median of '
        f'{CALLS} calls, batch {settings.batch_size}, {height}x{width}, '
        f'threads: {torch.get_num_threads()}',
    }
    accuracy = {}
    if loader is not None and right is not None:
        images_tested = len(loader.dataset)  # type: ignore[arg-type]
        before, after = (100 * count / images_tested for count in right)
        rows['top-1'] = (
            f'eager torch {before:.2f} %, {file_format.runtime} {after:.2f} %, of {images_tested:,} images'
        )
        accuracy = {'eager_top1': before, 'top1': after}
    print_summary(rows)
    return {
        **accuracy,
        'file': relative(target),
        'bytes': size,
        'outputs': maps,
        'difference': difference,
        'eager_ms': eager,
        'exported_ms': other,
    }


def checked_shapes(network: ExportNetwork) -> list[tuple[int, int, int, int]]:
    """Input shapes at which a file is compared with eager torch."""
    (height, width), step, channels = network.size, network.step, network.channels
    shapes = [(batch, channels, height, width) for batch in CHECKED_BATCHES]
    if step:
        shapes += [
            (2, channels, height + step, width + 2 * step),
            (1, channels, network.smallest + step, network.smallest),
        ]
    return shapes


def example_images(network: ExportNetwork, shape: Sequence[int]) -> Tensor:
    """Noise of ``shape``, always the same: normalized images, or pixels where the network takes them."""
    generator = torch.Generator().manual_seed(0)
    if network.raw:
        return 255 * torch.rand(*shape, generator=generator)
    return torch.randn(*shape, generator=generator)


def largest_difference(
    network: ExportNetwork, exported: Exported, shapes: Iterable[Sequence[int]]
) -> float:
    """Largest absolute difference between outputs of the network and of its export, over ``shapes``.

    NaN where any difference is NaN, infinite where an output has another shape.
    """
    found = []
    for shape in shapes:
        images = example_images(network, shape)
        for own, other in zip(network(images), exported(images), strict=True):
            same = own.shape == other.shape
            found.append(float((own - other).abs().max()) if same else math.inf)
    # max() alone would miss a NaN that is not the first.
    return math.nan if any(map(math.isnan, found)) else max(found)


def _find_target(network: ExportNetwork, settings: ExportSettings) -> Path:
    """The file to write."""
    suffix = FORMATS[settings.format].suffix
    stem = Path(settings.config).stem + ('' if network.outputs == LOGITS else '_features')
    stem += '_int8' if settings.format == 'onnx-int8' else ''
    target = Path(settings.out if settings.out is not None else stem + suffix)
    if target.suffix != suffix:
        raise InputError(
            f'--out {str(target)!r}: --format {settings.format} is written to *{suffix}'
        )
    check_writable(target, '--out')
    return target


def _line(name: str, shape: Sequence[Any]) -> str:
    return f'{name} ({", ".join(map(str, shape))})'
