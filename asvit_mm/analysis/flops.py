"""Parameters and multiply-adds of a whole model, module by module: classifiers and detectors."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..engine.config import find_config, is_detector, load_config, one_line, require
from ..engine.runner import check_codebase
from ..errors import InputError
from ..tokens import as_pair
from ..utils.files import atomic_write_json, check_writable, relative
from ..utils.units import format_count
from .benchmark import count_by_module

TABLE_WIDTH = 90


def run_flops(
    config: str,
    shape: tuple[int, ...] | None = None,
    options: Mapping[str, Any] | None = None,
    json: str | None = None,
) -> dict[str, Any]:
    """Count, print and write what a prediction of one image costs, module by module.

    A detector is run as in a test, with untrained weights and no threshold on scores, so that it keeps as
    many proposals and detections as its config allows: these decide what its heads cost.

    Args:
        config: path of a config for mmpretrain or mmdet; ``mmdet::FOLDER/NAME.py``: one that mmdet ships.
        shape: (height, width) of the image, in pixels; None: the backbone's ``img_size``.
        options: that override the config.
        json: file to write the figures to.

    Returns:
        Plain data: ``shape``, ``params`` and ``macs`` of the model, ``modules``: of each its name, depth in
        the table, ``params`` and ``macs``; ``rois``: regions that each kind of head of a detector saw.

    Raises:
        InputError: no such config, a model that cannot be built, an image that it cannot take, or a file
            that cannot be written.
    """
    if json is not None:
        check_writable(Path(json))
    cfg = load_model_config(config, options)
    detects = is_detector(cfg)
    model = build_model(cfg, config)
    # A detector's images have another size than those that its backbone was made for.
    size = shape or (
        None if detects else getattr(getattr(model, 'backbone', None), 'img_size', None)
    )
    if size is None:
        raise InputError(f'{config} does not say how large images are: give --shape HEIGHT WIDTH')
    height, width = as_pair(size, '--shape')
    predict = _detect_black if detects else _classify
    counts, rois = count_prediction(model, lambda: predict(model, height, width), (height, width))
    result = {
        'config': config,
        'shape': [height, width],
        'params': sum(p.numel() for p in model.parameters()),
        'macs': counts[''],
        'modules': _rows(model, counts),
        'rois': rois,
    }
    _print(result)
    if json is not None:
        print(f'written: {relative(atomic_write_json(json, result))}')
    return result


def count_detector(config: str | Path, shape: tuple[int, int]) -> tuple[int, int]:
    """Parameters of a config's detector, and multiply-adds of its prediction of an image of ``shape``.

    Raises:
        InputError: as :func:`run_flops`.
    """
    model = build_model(load_model_config(str(config)), str(config))
    counts, _ = count_prediction(model, lambda: _detect_black(model, *shape), shape)
    return sum(p.numel() for p in model.parameters()), counts['']


def load_model_config(name: str, options: Mapping[str, Any] | None = None) -> Config:
    """The config of a model of images, without anything that would make it fetch weights.

    Args:
        name: a path, or ``mmdet::FOLDER/NAME.py`` for a config that mmdet ships.
        options: that override it.

    Raises:
        InputError: no such config, or none of a model of images alone.
    """
    cfg = load_config(find_config(name), options)
    require(cfg, ['model'], 'a prediction')
    check_codebase(cfg)
    if isinstance(cfg.model, dict) and 'language_model' in cfg.model:
        raise InputError(f'{name} needs a text with its image: give a model of images alone')
    _forget_weights(cfg.model)
    return cfg


def build_model(cfg: Config, name: str) -> nn.Module:
    """The model of the config called ``name``, to predict with: on the CPU, weights random, always the same.

    Checkpoints that ``init_cfg`` names are not loaded. A detector of two stages has no threshold on scores,
    since untrained ones seldom reach it.

    Raises:
        InputError: it cannot be built.
    """
    if isinstance(cfg.model, ConfigDict) and 'rcnn' in (cfg.model.get('test_cfg') or {}):
        cfg.model.test_cfg.rcnn.score_thr = -1.0
    scope = cfg.get('default_scope') or 'mmengine'
    # The weights decide how many proposals survive: always the same ones.
    with DefaultScope.overwrite_default_scope(scope), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            model: nn.Module = MODELS.build(cfg.model)
        except InputError:
            raise
        except (
            AssertionError,
            AttributeError,
            ImportError,
            KeyError,
            OSError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            raise InputError(f'the model of {name} cannot be built: {one_line(error)}') from error
    return model.eval()


def _forget_weights(settings: Any) -> None:
    """Remove ``init_cfg`` and ``pretrained`` at any depth: checkpoints, or a constructor's download."""
    if isinstance(settings, dict):
        for key in ('init_cfg', 'pretrained'):
            settings.pop(key, None)
        settings = settings.values()
    elif not isinstance(settings, (list, tuple)):
        return
    for value in settings:
        _forget_weights(value)


def count_prediction(
    model: nn.Module, predict: Callable[[], Any], shape: tuple[int, int]
) -> tuple[dict[str, int], dict[str, int]]:
    """What ``predict``, a prediction of one image of ``shape`` by ``model``, computes.

    Returns:
        Multiply-adds by the name of every module called, '' for all of them; and the number of regions
        that each kind of head of a detector saw.

    Raises:
        InputError: the model cannot take such an image.
    """
    rois, handles = _watch_heads(model)
    try:
        return count_by_module(model, predict), rois
    except InputError:
        raise
    except (AssertionError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f'{type(model).__name__} cannot take an image of {shape[0]}x{shape[1]} pixels: '
            f'{one_line(error)}'
        ) from error
    finally:
        for handle in handles:
            handle.remove()


def detect(model: Any, image: Tensor) -> Any:
    """A detector's prediction of one image, (3, height, width) in bytes, as mmdet's test loop makes it.

    From the preprocessing of the image (normalised, padded) to the boxes after the suppression of
    overlapping ones and the masks, pasted into images of the same size.
    """
    from mmdet.structures import DetDataSample

    size = tuple(image.shape[1:])
    meta = {'img_shape': size, 'ori_shape': size, 'scale_factor': (1.0, 1.0)}
    data = {'inputs': [image], 'data_samples': [DetDataSample(metainfo=meta)]}
    return model(**model.data_preprocessor(data), mode='predict')


def black_image(height: int, width: int, device: str = 'cpu') -> Tensor:
    """What detectors are counted and timed on: (3, height, width) bytes, all zero."""
    return torch.zeros(3, height, width, dtype=torch.uint8, device=device)


def _detect_black(model: Any, height: int, width: int) -> None:
    detect(model, black_image(height, width))


def _classify(model: Any, height: int, width: int) -> None:
    channels = getattr(getattr(model, 'backbone', None), 'in_channels', 3)
    model(torch.zeros(1, channels, height, width))


def _watch_heads(model: nn.Module) -> tuple[dict[str, int], list[RemovableHandle]]:
    """The number of regions that each kind of head sees, filled in while the model runs; its hooks."""
    seen: dict[str, int] = {}
    handles = []
    for kind in ('bbox_head', 'mask_head'):
        heads = getattr(getattr(model, 'roi_head', None), kind, None)
        if heads is None:
            continue

        def note(module: nn.Module, inputs: tuple[Tensor, ...], kind: str = kind) -> None:
            seen[kind] = max(seen.get(kind, 0), len(inputs[0]))

        for head in heads if isinstance(heads, nn.ModuleList) else [heads]:
            handles.append(head.register_forward_pre_hook(note))
    return seen, handles


def _rows(model: nn.Module, counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """The outermost modules that were called, alike ones joined; those of the backbone below it."""
    called = [name for name in counts if name]
    outermost = [n for n in called if not any(n.startswith(f'{other}.') for other in called)]
    rows: list[dict[str, Any]] = []
    for name in dict.fromkeys(re.sub(r'\.\d+$', '', n) for n in outermost):
        members = [n for n in outermost if re.sub(r'\.\d+$', '', n) == name]
        rows.append(_row(model, name, 0, sum(counts[n] for n in members)))
        inside = [n for n in called if n.startswith(f'{name}.') and name == 'backbone']
        parts = [n for n in inside if not any(n.startswith(f'{other}.') for other in inside)]
        rows += [_row(model, n, 1, counts[n]) for n in parts if counts[n]]
    return rows


def _row(model: nn.Module, name: str, depth: int, macs: int) -> dict[str, Any]:
    params = sum(p.numel() for p in model.get_submodule(name).parameters())
    return {'name': name, 'depth': depth, 'params': params, 'macs': macs}


def _print(result: Mapping[str, Any]) -> None:
    height, width = result['shape']
    console = Console(highlight=False)
    console.width = max(TABLE_WIDTH, console.width)
    shown = Table(
        title=f'{result["config"]}: {result["params"]:,} parameters, {format_count(result["macs"])} '
        f'multiply-adds an image of {height}x{width}',
        title_justify='left',
    )
    shown.add_column('module')
    for column in ('parameters', 'multiply-adds', 'share'):
        shown.add_column(column, justify='right')
    for row in result['modules']:
        shown.add_row(
            '  ' * row['depth'] + row['name'],
            f'{row["params"]:,}',
            format_count(row['macs']),
            f'{100 * row["macs"] / result["macs"]:.1f} %',
        )
    console.print(shown)
    for kind, regions in result['rois'].items():
        print(f'{kind}: {regions} regions')
