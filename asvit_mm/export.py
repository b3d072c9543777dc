"""Export of a config's model, to ONNX or as a program of torch.export, checked against eager torch.

What is written holds the weights and runs without this package: logits of a classifier, or the maps of a
backbone for whatever stands behind it.
"""

import json
import logging
import math
import operator
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn

from .benchmark import median_and_spread, time_in_turn
from .checkpoints import check_pretrained, read_checkpoint
from .config import one_line
from .errors import InputError
from .jobs.flops import build_model, load_model_config
from .jobs.setup import check_at_least, relative
from .models import AsViT
from .tokens import BASE_STRIDE, as_pair

Exported = Callable[[Tensor], Sequence[Tensor]]

SUFFIXES = {'onnx': '.onnx', 'torch': '.pt2'}
OUTPUTS = ('logits', 'features')
PACKAGES = ('onnx', 'onnxruntime', 'onnxscript')
INPUT = 'images'
DESCRIPTION = 'asvit_mm.json'  # the extra file of a .pt2
OPSET = 18
PROBED_BATCHES = (2, 1, 3)
ROUNDS, WARMUP = 9, 2


@dataclass(frozen=True)
class Pixels:
    """What a model's config does to an image before the network sees it.

    Args:
        order: of the channels that the network takes: 'RGB', 'BGR', or '' where there are not three.
        mean: of each channel, in that order; None where images are not normalised.
        std: as ``mean``.
    """

    order: str
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None


@dataclass(frozen=True)
class Network:
    """What is exported.

    Args:
        module: images (N, channels, H, W), float32, to a tuple of tensors, one for each of ``outputs``.
        outputs: their names.
        channels: of an image.
        size: (height, width) that it is exported for.
        step: pixels that height and width are multiples of, where they are free; 0: they are not.
        smallest: pixels a side from which on they are free.
    """

    module: nn.Module
    outputs: tuple[str, ...]
    channels: int
    size: tuple[int, int]
    step: int
    smallest: int


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
        Plain data: ``file``, ``bytes``, ``input`` and ``outputs`` (name and shape), ``description``,
        ``checked`` (shapes of input), ``difference``, ``tolerance``, and of the timing ``shape``,
        ``threads``, ``eager_ms`` and ``exported_ms``.

    Raises:
        InputError: a user's mistake, packages that are not installed, a model that cannot be traced, or a
            file whose outputs are not eager torch's; then nothing is written.
    """
    check_at_least('--batch-size', batch_size, 1)
    if not (math.isfinite(tolerance) and tolerance > 0):
        raise InputError(f'--tolerance {tolerance} is not a number above 0')
    if file_format == 'onnx':
        require_packages()
    cfg = load_model_config(config, options)
    part, output = _find_part(cfg, config, output)
    target = _find_target(out, config, output, file_format)
    pixels = pixels_of(cfg, part)
    if raw and pixels.mean is None:
        raise InputError(f'--raw: {config} has no mean and std of pixels to normalise by')
    step = size_step(getattr(part, 'backbone', part), file_format) if dynamic_size else 0
    module = Logits(part) if output == 'logits' else Features(part)
    network = Network(
        module=(Normalised(module, pixels) if raw else module).eval().requires_grad_(False),
        outputs=_names(part, output),
        channels=_channels(part),
        size=_find_size(cfg, part, size, config),
        step=step,
        # A side of one token is special to torch.export.
        smallest=2 * step if file_format == 'torch' else step,
    )
    _check_size(network)
    _load_weights(part, checkpoint, config, '' if output == 'logits' else 'backbone.')
    description = {
        'config': config,
        'weights': checkpoint or 'random',
        'input': _describe_input(pixels, raw),
        'mean': pixels.mean,
        'std': pixels.std,
    }
    with torch.no_grad(), _temporary(target) as path:
        write = _write_onnx if file_format == 'onnx' else _write_program
        read = _read_onnx if file_format == 'onnx' else _read_program
        write(network, trace(network), description, path)
        exported = read(path)
        shapes = _probes(network)
        difference = max(_difference(network, exported, shape, raw) for shape in shapes)
        if not difference <= tolerance:
            raise InputError(
                f'{target} would differ from eager torch by {difference:.2g}, more than --tolerance '
                f'{tolerance:g}: nothing is written'
            )
        shape = (batch_size, network.channels, *network.size)
        images = _images(shape, raw)
        eager_ms, exported_ms = _time(network, exported, images)
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


class Logits(nn.Module):
    """A classifier's logits (N, classes) of images: no softmax."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (N, channels, H, W) to logits."""
        return (self.model(images, mode='tensor'),)


class Features(nn.Module):
    """A backbone's maps (N, C_i, H_i, W_i) of images."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (N, channels, H, W) to maps."""
        return tuple(self.backbone(images))


class Normalised(nn.Module):
    """A network behind the normalisation of its images, RGB pixels (N, 3, H, W) of 0 to 255."""

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, network: nn.Module, pixels: Pixels) -> None:
        super().__init__()
        self.network = network
        self.flips = pixels.order == 'BGR'
        # Not 'mean': onnxscript has values of that name, too, and takes one for the other.
        self.register_buffer('pixel_mean', torch.tensor(pixels.mean).view(-1, 1, 1))
        self.register_buffer('pixel_std', torch.tensor(pixels.std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Pixels (N, 3, H, W) to what the network gives."""
        if self.flips:
            images = images.flip(1)
        return self.network((images - self.pixel_mean) / self.pixel_std)


class Multiples(nn.Module):
    """A network whose images are multiples of ``step`` pixels a side, said so that torch.export sees it.

    Every size inside the network then is a multiple of (side // step), which torch's symbolic arithmetic
    keeps short; other images are an error of broadcasting.
    """

    def __init__(self, network: nn.Module, step: int) -> None:
        super().__init__()
        self.network, self.step = network, step

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (N, channels, H, W) to what the network gives."""
        batch, channels, height, width = images.shape
        sides = (height // self.step * self.step, width // self.step * self.step)
        return self.network(images.new_zeros(batch, channels, *sides) + images)


def require_packages() -> None:
    """Refuse to go on where the packages that ONNX needs are not installed.

    Raises:
        InputError: names those that are missing.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise InputError(
            f'export to ONNX needs {", ".join(missing)}, not installed: pip install {" ".join(PACKAGES)}'
        )


def pixels_of(cfg: Config, model: nn.Module) -> Pixels:
    """What the data preprocessor of a config does, its images being read as BGR, as MMCV reads them."""
    channels = _channels(model)
    # As MMEngine's Runner has it: the model's own wins.
    settings = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    to_rgb = settings.get('to_rgb') or settings.get('bgr_to_rgb')
    mean, std = (settings.get(name) for name in ('mean', 'std'))
    return Pixels(
        order='' if channels != 3 else 'RGB' if to_rgb else 'BGR',
        mean=None if mean is None or std is None else tuple(map(float, mean)),
        std=None if mean is None or std is None else tuple(map(float, std)),
    )


def trace(network: Network) -> torch.export.ExportedProgram:
    """The network as a program of torch.export, its batch free, and height and width where it says so.

    Raises:
        InputError: torch.export cannot follow the network.
    """
    module, (height, width), free = network.module, network.size, {0: torch.export.Dim('batch')}
    if network.step:
        module = Multiples(module, network.step)
        # Sizes that are special in no way: what is true of them by chance would be taken for granted.
        height, width = height + 5 * network.step, width + 3 * network.step
        smallest = network.smallest // network.step
        free |= {
            axis: network.step * torch.export.Dim(name, min=smallest)
            for axis, name in ((2, 'height'), (3, 'width'))
        }
    example = torch.zeros(2, network.channels, height, width)
    try:
        return torch.export.export(module, (example,), dynamic_shapes={INPUT: free}, strict=False)
    except Exception as error:
        raise InputError(
            f'torch.export cannot follow the model of the config: {one_line(error)[:250]}'
        ) from error


def size_step(backbone: nn.Module, file_format: str) -> int:
    """What heights and widths are multiples of, where an export leaves them free.

    Every stage's map then is halved without a rest and, where windows follow the map's size, tiled by them.

    Raises:
        InputError: a backbone or a setting with which sizes cannot be free.
    """
    if not isinstance(backbone, AsViT):
        raise InputError(f'--dynamic-size: known for AsViT only, not {type(backbone).__name__}')
    fixed = any(size is not None for size in backbone.window_sizes)
    enlarged = backbone.keep_map_sizes and backbone.token_stride != BASE_STRIDE
    for refused, setting in (
        (backbone.merge_rounding == 'over', "merge_rounding='over'"),
        (enlarged, 'keep_map_sizes=True'),
        (fixed and file_format == 'torch', 'window_size and --format torch'),
    ):
        if refused:
            raise InputError(f'--dynamic-size cannot be had with {setting}: leave one of them out')
    stages = zip(backbone.architecture.splits, backbone.window_sizes, strict=True)
    return math.lcm(
        *(
            backbone.token_stride * 2**i * (split if window is None else 1)
            for i, (split, window) in enumerate(stages)
        )
    )


def _find_part(cfg: Config, config: str, output: str | None) -> tuple[nn.Module, str]:
    """The model of a config or its backbone, and which of ``OUTPUTS`` it gives."""
    model = build_model(cfg, config)
    classifies = cfg.get('default_scope') != 'mmdet' and bool(getattr(model, 'with_head', False))
    output = output or ('logits' if classifies else 'features')
    if output == 'logits':
        if not classifies:
            raise InputError(f'the model of {config} has no logits of classes: --output features')
        return model, output
    backbone = getattr(model, 'backbone', None)
    if not isinstance(backbone, nn.Module):
        raise InputError(f'the model of {config} has no backbone: there are no features to export')
    return backbone, output


def _find_target(out: str | None, config: str, output: str, file_format: str) -> Path:
    """The file that is written."""
    suffix = SUFFIXES[file_format]
    stem = Path(config).stem + ('_features' if output == 'features' else '')
    target = Path(out if out is not None else stem + suffix)
    if target.suffix != suffix:
        raise InputError(f'--out {str(target)!r}: --format {file_format} is written to *{suffix}')
    folder = _existing(target)
    if target.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f'--out {str(target)!r} cannot be written: give a file in another folder')
    return target


def _existing(path: Path) -> Path:
    """The innermost of the folders above ``path`` that is there."""
    return next(parent for parent in path.absolute().parents if parent.exists())


@contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """Yield a path in a folder of its own; the file there becomes the target when the block succeeds."""
    with tempfile.TemporaryDirectory(dir=_existing(target), prefix=f'.{target.name}.') as folder:
        path = Path(folder) / target.name
        yield path
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)


def _load_weights(module: nn.Module, checkpoint: str | None, config: str, prefix: str) -> None:
    """Give the module its weights from a checkpoint, all of them."""
    if checkpoint is None:
        print(f'note: no CHECKPOINT: the weights of {config} are random, for timing only')
        return
    content = read_checkpoint(checkpoint)
    if not any(key.startswith(prefix) for key in content.get('state_dict', content)):
        raise InputError(
            f'{checkpoint!r} has no weights of a backbone: give a checkpoint of a model'
        )
    settings: dict[str, Any] = {'checkpoint': checkpoint}
    if prefix:
        settings['prefix'] = prefix
    # A backbone's output norms are those of the maps that were asked for when it was trained.
    check_pretrained(
        module,
        settings,
        optional=['norm'] if prefix else [],
        resampled='pos_embed' if prefix else 'backbone.pos_embed',
    )
    weights = content.get('state_dict', content)
    start = prefix or 'module.'
    given = {k.removeprefix(start): v for k, v in weights.items() if k.startswith(prefix)}
    module.load_state_dict(given, strict=False)


def _find_size(
    cfg: Config, model: nn.Module, size: Sequence[int] | None, config: str
) -> tuple[int, int]:
    """(height, width) to export for."""
    if size is None and cfg.get('default_scope') != 'mmdet':
        size = getattr(getattr(model, 'backbone', model), 'img_size', None)
    if size is None:
        raise InputError(f'{config} does not say how large images are: give --size HEIGHT WIDTH')
    return as_pair(size, '--size')


def _channels(model: nn.Module) -> int:
    return getattr(getattr(model, 'backbone', model), 'in_channels', 3)


def _names(part: nn.Module, output: str) -> tuple[str, ...]:
    """Of the outputs: 'logits', or 'stage1' and so on for the maps."""
    if output == 'logits':
        return ('logits',)
    indices = getattr(part, 'out_indices', None)
    if not isinstance(indices, Sequence):
        raise InputError(f'{type(part).__name__} does not say which maps it returns (out_indices)')
    return tuple(f'stage{i + 1}' for i in indices)


def _check_size(network: Network) -> None:
    """Refuse a size that is none of those which stay free."""
    step, smallest = network.step, network.smallest
    if step and any(side % step or side < smallest for side in network.size):
        raise InputError(
            f'--dynamic-size: height and width are multiples of {step} from {smallest} up, and '
            f'{network.size[0]}x{network.size[1]} is not: give another --size'
        )


def _describe_input(pixels: Pixels, raw: bool) -> str:
    if raw:
        return 'RGB pixels of 0 to 255, normalised inside'
    order = pixels.order or 'channels as the config feeds them'
    if pixels.mean is None:
        return f'{order}, not normalised'
    mean, std = (' '.join(f'{v:g}' for v in values) for values in (pixels.mean, pixels.std or ()))
    return f'{order}, (pixel - mean) / std with mean {mean}, std {std}'


def _free(shape: Sequence[int], step: int) -> list[int | str]:
    """A shape of input as it is printed, names where it is free."""
    sides = [f'{step}*h', f'{step}*w'] if step else shape[2:]
    return ['batch', shape[1], *sides]


def _probes(network: Network) -> list[tuple[int, int, int, int]]:
    """Shapes of input at which the file is held against eager torch."""
    height, width = network.size
    step, smallest, channels = network.step, network.smallest, network.channels
    shapes = [(batch, channels, height, width) for batch in PROBED_BATCHES]
    if step:
        shapes += [
            (2, channels, height + step, width + 2 * step),
            (1, channels, smallest + step, smallest),
        ]
    return shapes


def _images(shape: Sequence[int], raw: bool) -> Tensor:
    """Noise, always the same: of normalised images, or of pixels."""
    generator = torch.Generator().manual_seed(0)
    return (
        255 * torch.rand(*shape, generator=generator)
        if raw
        else torch.randn(*shape, generator=generator)
    )


def _difference(network: Network, exported: Exported, shape: Sequence[int], raw: bool) -> float:
    """The largest difference between outputs of the network and of its export; NaN where one is."""
    images = _images(shape, raw)
    pairs = zip(network.module(images), exported(images), strict=True)
    found = [
        math.inf if own.shape != other.shape else float((own - other).abs().max())
        for own, other in pairs
    ]
    return math.nan if any(map(math.isnan, found)) else max(found)


def _write_program(
    network: Network,
    program: torch.export.ExportedProgram,
    description: Mapping[str, Any],
    path: Path,
) -> None:
    extra = {DESCRIPTION: json.dumps({**description, 'outputs': network.outputs}, indent=2)}
    torch.export.save(program, path, extra_files=extra)


def _read_program(path: Path) -> Exported:
    with warnings.catch_warnings():
        warnings.filterwarnings(
            'ignore', 'The given buffer is not writable'
        )  # nor is it written to
        return torch.export.load(path).module()


def _write_onnx(
    network: Network,
    program: torch.export.ExportedProgram,
    description: Mapping[str, Any],
    path: Path,
) -> None:
    import onnx
    from onnxscript import opset18

    def floor_divide(self: Any, other: Any) -> Any:
        # torch's own translation rounds towards zero, which is another number below zero.
        return opset18.Div(opset18.Sub(self, opset18.Mod(self, other)), other)

    with _quiet():
        converted = torch.onnx.export(
            program,
            input_names=[INPUT],
            output_names=list(network.outputs),
            opset_version=OPSET,
            custom_translation_table={operator.floordiv: floor_divide},
            verbose=False,
        )
    assert converted is not None
    _rename_sizes(converted.model)
    converted.model.metadata_props.update(
        {f'asvit_mm.{name}': str(value) for name, value in description.items()}
    )
    converted.save(path)
    onnx.checker.check_model(path, full_check=True)


def _read_onnx(path: Path) -> Exported:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, settings, providers=['CPUExecutionProvider'])

    def run(images: Tensor) -> list[Tensor]:
        return [torch.from_numpy(one) for one in session.run(None, {INPUT: images.numpy()})]

    return run


def _rename_sizes(model: Any) -> None:
    """Name an ONNX model's free sizes as ``batch``, ``h`` and ``w`` instead of ``s34`` and the like."""
    import onnx_ir

    names: dict[str, str] = {}
    for side, name in zip(model.graph.inputs[0].shape, ('batch', '', 'h', 'w'), strict=True):
        names.update(dict.fromkeys(re.findall(r's\d+', str(side)), name))

    def rename(side: Any) -> Any:
        if isinstance(side, int) or side.value is None:
            return side
        return re.sub(r's\d+', lambda found: names.get(found[0], found[0]), str(side.value))

    values = [*model.graph.inputs, *(v for node in model.graph.all_nodes() for v in node.outputs)]
    for value in values:
        if value.shape is not None:
            value.shape = onnx_ir.Shape([rename(side) for side in value.shape])


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on translations of other packages, which are none of the user's."""
    schemas = logging.getLogger('torch.onnx._internal.exporter._schemas')
    level = schemas.level
    schemas.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', FutureWarning)
            yield
    finally:
        schemas.setLevel(level)


def _time(network: Network, exported: Exported, images: Tensor) -> tuple[float, float]:
    """Milliseconds of a call, eager and exported: medians of calls in turn."""
    calls = (lambda: network.module(images), lambda: exported(images))
    time_in_turn(calls, 'cpu', WARMUP)
    eager, other = (median_and_spread(s)[0] * 1e3 for s in time_in_turn(calls, 'cpu', ROUNDS))
    return eager, other


def _print(result: Mapping[str, Any]) -> None:
    def line(name: str, shape: Sequence[Any]) -> str:
        return f'{name} ({", ".join(map(str, shape))})'

    runtime = 'onnxruntime' if result['format'] == 'onnx' else 'torch.export'
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
        f'median of {ROUNDS} calls, batch {batch}, {height}x{width}, threads: {result["threads"]}',
    }
    for name, text in shown.items():
        print(f'{name:<11} {text}')
