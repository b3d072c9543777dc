"""Export of a config's model, to ONNX or as a program of torch.export, checked against eager torch."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..engine.models import build_model, load_model_config
from ..errors import InputError
from ..runs.progress import print_summary
from ..runs.settings import check_at_least
from ..utils.files import atomic_file, check_writable, relative
from . import (
    CALLS,
    FORMATS,
    INPUT,
    Network,
    describe_images,
    images_of,
    largest_difference,
    load_weights,
    prepare_network,
    probed_shapes,
    require_packages,
    time_both,
)


def run_export(
    config: str,
    checkpoint: str | None = None,
    *,
    file_format: str = 'onnx',
    output: str | None = None,
    size: Sequence[int] | None = None,
    dynamic_size: bool = False,
    raw: bool = False,
    out: str | None = None,
    tolerance: float = 1e-4,
    batch_size: int = 1,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Export the model of a config, check the file against eager torch, time both, and print what came out.

    Args:
        config: path of a config for mmpretrain or mmdet; ``mmdet::FOLDER/NAME.py``: one that mmdet ships.
        checkpoint: of a run of this config; None: random weights, for timing only.
        file_format: ``'onnx'`` or ``'torch'``.
        output: ``'logits'``, of a classifier, or ``'features'``, the backbone's maps; None: logits where
            the model has them.
        size: (height, width) of the images; None: the backbone's ``img_size``, of a classifier.
        dynamic_size: whether height and width stay free; the batch is in any case.
        raw: whether the network takes RGB pixels of 0 to 255 and normalises them itself.
        out: the file; None: named by the config, in the current folder.
        tolerance: the largest difference between the file's outputs and eager torch's.
        batch_size: images of a call that is timed.
        options: that override the config.

    Returns:
        Plain data: ``file``, ``bytes``, ``format``, ``input`` and ``outputs`` (name and shape),
        ``description``, ``checked`` (shapes of input), ``difference``, ``tolerance``, and of the timing
        ``shape``, ``threads``, ``eager_ms`` and ``exported_ms``.

    Raises:
        InputError: a user's mistake, packages that are not installed, a model that cannot be traced, or a
            file whose outputs are not eager torch's; then nothing is written.
    """
    check_at_least('--batch-size', batch_size, 1)
    for name, value, known in (
        ('file_format', file_format, (*FORMATS,)),
        ('output', output, ('logits', 'features', None)),
    ):
        if value not in known:
            raise InputError(f'{name} {value!r} is none of {", ".join(map(repr, known))}')
    if not (math.isfinite(tolerance) and tolerance > 0):
        raise InputError(f'--tolerance {tolerance} is not a number above 0')
    if file_format == 'onnx':
        require_packages()
    cfg = load_model_config(config, options)
    network = prepare_network(
        cfg,
        build_model(cfg, config),
        config,
        file_format=file_format,
        output=output,
        size=size,
        dynamic_size=dynamic_size,
        raw=raw,
    )
    target = _find_target(out, config, network, file_format)
    if checkpoint is None:
        print(f'note: no CHECKPOINT: the weights of {config} are random, for timing only')
    else:
        load_weights(network, checkpoint)
    description = {
        'config': config,
        'weights': checkpoint or 'random',
        'input': describe_images(network),
        'mean': network.pixels.mean,
        'std': network.pixels.std,
    }
    with torch.no_grad(), atomic_file(target) as path:
        FORMATS[file_format].write(network, description, path)
        exported = FORMATS[file_format].read(path)
        shapes = probed_shapes(network)
        difference = largest_difference(network, exported, shapes)
        if not difference <= tolerance:
            raise InputError(
                f'{target} would differ from eager torch by {difference:.2g}, more than --tolerance '
                f'{tolerance:g}: nothing is written'
            )
        shape = (batch_size, network.channels, *network.size)
        images = images_of(network, shape)
        eager_ms, exported_ms = time_both(network, exported, images)
        result = {
            'file': relative(target),
            'bytes': path.stat().st_size,
            'format': file_format,
            'input': {'name': INPUT, 'shape': _free(shape, network.step)},
            'outputs': [
                {'name': name, 'shape': ['batch', *one.shape[1:]]}
                for name, one in zip(network.outputs, network.module(images), strict=True)
            ],
            'description': description,
            'checked': [list(one) for one in shapes],
            'difference': difference,
            'tolerance': tolerance,
            'shape': list(shape),
            'threads': torch.get_num_threads(),
            'eager_ms': eager_ms,
            'exported_ms': exported_ms,
        }
    _print(result)
    return result


def _find_target(out: str | None, config: str, network: Network, file_format: str) -> Path:
    """The file that is written."""
    suffix = FORMATS[file_format].suffix
    stem = Path(config).stem + ('' if network.gives_logits else '_features')
    target = Path(out if out is not None else stem + suffix)
    if target.suffix != suffix:
        raise InputError(f'--out {str(target)!r}: --format {file_format} is written to *{suffix}')
    check_writable(target, '--out')
    return target


def _free(shape: Sequence[int], step: int) -> list[int | str]:
    """A shape of input as it is printed, names where it is free."""
    sides = [f'{step}*h', f'{step}*w'] if step else shape[2:]
    return ['batch', shape[1], *sides]


def _print(result: Mapping[str, Any]) -> None:
    def line(name: str, shape: Sequence[Any]) -> str:
        return f'{name} ({", ".join(map(str, shape))})'

    runtime = FORMATS[result['format']].runtime
    batch, _, height, width = result['shape']
    checked = ', '.join('x'.join(map(str, shape)) for shape in result['checked'])
    shown = {
        'file': f'{result["file"]}, {result["bytes"] / 1e6:.1f} MB',
        'weights': result['description']['weights'],
        'input': f'{line(**result["input"])} float32: {result["description"]["input"]}',
        'outputs': f'{", ".join(line(**one) for one in result["outputs"])} at {height}x{width}',
        'difference': f'at most {result["difference"]:.1e} from eager torch (allowed: '
        f'{result["tolerance"]:g}), inputs {checked}',
        'time': f'eager torch {result["eager_ms"]:.2f} ms, {runtime} {result["exported_ms"]:.2f} ms: '
        f'median of {CALLS} calls, batch {batch}, {height}x{width}, threads: {result["threads"]}',
    }
    print_summary(shown)
