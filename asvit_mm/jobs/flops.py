"""Parameters and multiply-adds of a whole model, module by module: classifiers and detectors."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from ..benchmark import count_by_module
from ..config import load_config, one_line, require
from ..errors import InputError
from ..files import atomic_write_json
from ..runner import check_codebase
from ..tokens import as_pair
from ..units import format_count
from .setup import relative

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
        config: path of a config for mmpretrain or mmdet.
        shape: (height, width) of the image, in pixels; None: the backbone's ``img_size``.
        options: that override the config.
        json: file to write the figures to.

    Returns:
        Plain data: ``shape``, ``params`` and ``macs`` of the model, ``modules``: of each its name, depth in
        the table, ``params`` and ``macs``; ``rois``: regions that each kind of head of a detector saw.

    Raises:
        InputError: no such config, a model that cannot be built, or an image that it cannot take.
    """
    cfg = load_config(config, options)
    require(cfg, ['model'], 'counting')
    check_codebase(cfg)
    detects = cfg.get('default_scope') == 'mmdet'
    model = _build(cfg, config)
    # A detector's images have another size than those that its backbone was made for.
    size = shape or (
        None if detects else getattr(getattr(model, 'backbone', None), 'img_size', None)
    )
    if size is None:
        raise InputError(f'{config} does not say how large images are: give --shape HEIGHT WIDTH')
    height, width = as_pair(size, '--shape')
    rois = _watch_heads(model)
    try:
        predict = _detect if detects else _classify
        counts = count_by_module(model, lambda: predict(model, height, width))
    except InputError:
        raise
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f'{type(model).__name__} cannot take an image of {height}x{width} pixels: {one_line(error)}'
        ) from error
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


def _build(cfg: Config, name: str) -> nn.Module:
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
            TypeError,
            ValueError,
        ) as error:
            raise InputError(f'the model of {name} cannot be built: {one_line(error)}') from error
    return model.eval()


def _classify(model: Any, height: int, width: int) -> None:
    channels = getattr(getattr(model, 'backbone', None), 'in_channels', 3)
    model(torch.zeros(1, channels, height, width))


def _detect(model: Any, height: int, width: int) -> None:
    from mmdet.structures import DetDataSample

    image = torch.zeros(3, height, width, dtype=torch.uint8)
    meta = {'img_shape': (height, width), 'ori_shape': (height, width), 'scale_factor': (1.0, 1.0)}
    data = {'inputs': [image], 'data_samples': [DetDataSample(metainfo=meta)]}
    model(**model.data_preprocessor(data), mode='predict')


def _watch_heads(model: nn.Module) -> dict[str, int]:
    """The number of regions that each kind of head sees, filled in while the model runs."""
    seen: dict[str, int] = {}
    for kind in ('bbox_head', 'mask_head'):
        heads = getattr(getattr(model, 'roi_head', None), kind, None)
        if heads is None:
            continue

        def note(module: nn.Module, inputs: tuple[Tensor, ...], kind: str = kind) -> None:
            seen[kind] = max(seen.get(kind, 0), len(inputs[0]))

        for head in heads if isinstance(heads, nn.ModuleList) else [heads]:
            head.register_forward_pre_hook(note)
    return seen


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
