"""Parameters and multiply-adds of a whole model, module by module: classifiers, detectors and segmentors.

Nothing is computed where it need not be: on torch's meta device operations have shapes and no numbers,
which is all that counting takes.
"""

import copy
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from ..engine.config import is_detector, is_segmentor
from ..engine.models import build_model, load_model_config
from ..engine.options import parse_options
from ..errors import InputError, one_line
from ..tokens import as_pair
from ..utils.files import write_figures
from ..utils.units import format_count
from .settings import FlopsSettings
from .tables import print_table

# The parts of a detector whose outputs follow from the shapes of their inputs, and where they are.
HEADS = ('bbox_head', 'mask_head')
PARTS = ('backbone', 'neck', 'rpn_head', *HEADS, *(f'roi_head.{head}' for head in HEADS))
EXTRACTORS = ('roi_head.bbox_roi_extractor', 'roi_head.mask_roi_extractor')
# Of 80 classes with random scores every twelfth is above it: enough detections, and few to compare.
RANDOM_SCORE = 0.03
# What models raise for images that do not fit them.
_FAILURES = (
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    RuntimeError,
    TypeError,
    ValueError,
)


def run_flops(settings: FlopsSettings) -> dict[str, Any]:
    """Count, print and write what a prediction of one image costs, module by module.

    Returns:
        Plain data: ``shape``, ``params`` and ``macs`` of the model, ``modules``: of each its name, depth in
        the table, ``params`` and ``macs``; ``rois``: regions that each kind of head of a detector sees.

    Raises:
        InputError: no such config, a model that cannot be built, an image that it cannot take, or a file
            that cannot be written.
    """
    config = settings.config
    cfg = load_model_config(config, parse_options(settings.cfg_options))
    model = build_model(cfg, config)
    # The images of others have another size than those that the backbone was made for.
    others = is_detector(cfg) or is_segmentor(cfg)
    own = None if others else getattr(getattr(model, 'backbone', None), 'img_size', None)
    size = settings.shape or own
    if size is None:
        raise InputError(f'{config} does not say how large images are: give --shape HEIGHT WIDTH')
    height, width = as_pair(size[0] if len(size) == 1 else size, '--shape')
    counts, rois = count_prediction(model, cfg, (height, width))
    params, modules = count_parameters(model), _rows(model, counts)
    title = (
        f'{config}: {params:,} parameters, {format_count(counts[""])} multiply-adds per image of '
        f'{height}x{width}'
    )
    rows = [
        {
            'module': '  ' * row['depth'] + row['name'],
            'parameters': f'{row["params"]:,}',
            'multiply-adds': format_count(row['macs']),
            'share': f'{row["macs"] / counts[""]:.1%}',
        }
        for row in modules
    ]
    print_table(title, rows)
    for kind, regions in rois.items():
        print(f'{kind}: {regions} regions')
    result = {
        'config': config,
        'shape': [height, width],
        'params': params,
        'macs': counts[''],
        'modules': modules,
        'rois': rois,
    }
    write_figures(settings.json, result)
    return result


def count_config(config: str | Path, shape: tuple[int, int]) -> tuple[int, int]:
    """Parameters of a config's model, and multiply-adds of its prediction of an image of ``shape``.

    Raises:
        InputError: as :func:`run_flops`.
    """
    cfg = load_model_config(str(config))
    model = build_model(cfg, str(config))
    counts, _ = count_prediction(model, cfg, shape)
    return count_parameters(model), counts['']


def count_parameters(module: nn.Module) -> int:
    """How many parameters a module has."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_multiply_adds(model: nn.Module, images: Tensor) -> int:
    """Multiply-adds of one forward pass, computed where ``images`` are; see :func:`count_by_module`."""
    return count_by_module(model, lambda: model(images))['']


def count_by_module(model: nn.Module, call: Callable[[], Any]) -> dict[str, int]:
    """Multiply-adds of what ``call`` runs, by the name of every module called in it; '' is all.

    Matrix products, convolutions and attention, fused or not: counted by torch on the explicit form of
    attention, since its counter does not know the CPU's fused kernel.
    """
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    root = type(model).__name__
    counts = {'': counter.get_total_flops() // 2}
    for name, operations in counter.get_flop_counts().items():
        if name.startswith(f'{root}.'):
            counts[name.removeprefix(f'{root}.')] = sum(operations.values()) // 2
    return counts


def count_prediction(
    model: nn.Module, cfg: Config, shape: tuple[int, int]
) -> tuple[dict[str, int], dict[str, int]]:
    """What a prediction of one image of ``shape``, (height, width), costs the model of ``cfg``.

    The model is copied and the copy's modules run on the meta device. What a detector does between them,
    from anchors to the suppression of overlapping boxes, is run on the CPU with random outputs of its
    heads, so its later heads see as many regions as the config allows. A model that does not run on the
    meta device (deformable operators of mmcv, for example) is computed on the CPU.

    Returns:
        Multiply-adds by the name of every module called, '' for all of them; and the number of regions
        that each kind of head of a detector sees.

    Raises:
        InputError: the model cannot take such an image.
    """
    detects = is_detector(cfg)
    twin = copy.deepcopy(model)
    try:
        if detects:
            _run_parts_on_meta(twin)
        else:
            twin.to('meta')
        return _count(twin, detects, shape, 'cpu' if detects else 'meta')
    except _FAILURES:
        # Computing on the CPU tells whether it is the model that cannot do it, or the meta device.
        twin = copy.deepcopy(model)
    try:
        keep_all_scores(twin)
        return _count(twin, detects, shape, 'cpu')
    except InputError:
        raise
    except _FAILURES as error:
        raise InputError(
            f'{type(model).__name__} cannot take an image of {shape[0]}x{shape[1]} pixels: '
            f'{one_line(error)}'
        ) from error


def keep_all_scores(model: Any, threshold: float = -1.0) -> None:
    """Let a two-stage detector keep detections of low scores, since those of random weights are low."""
    settings = getattr(getattr(model, 'roi_head', None), 'test_cfg', None)
    if settings is not None:
        settings.score_thr = threshold


def black_image(height: int, width: int, device: str = 'cpu') -> Tensor:
    """What detectors are counted and timed on: uint8 (3, height, width), all zero."""
    return torch.zeros(3, height, width, dtype=torch.uint8, device=device)


def detect(model: Any, image: Tensor) -> Any:
    """A detector's prediction of one image, uint8 (3, height, width), as mmdet's test loop makes it.

    From the preprocessing of the image (normalised, padded) to the suppression of overlapping boxes and the
    masks, pasted into images of the same size.
    """
    from mmdet.structures import DetDataSample

    size = tuple(image.shape[1:])
    meta = {'img_shape': size, 'ori_shape': size, 'scale_factor': (1.0, 1.0)}
    data = {'inputs': [image], 'data_samples': [DetDataSample(metainfo=meta)]}
    return model(**model.data_preprocessor(data), mode='predict')


def _count(
    model: Any, detects: bool, shape: tuple[int, int], device: str
) -> tuple[dict[str, int], dict[str, int]]:
    if not detects:
        channels = getattr(getattr(model, 'backbone', None), 'in_channels', 3)
        images = torch.zeros(1, channels, *shape, device=device)
        return count_by_module(model, lambda: model(images)), {}
    regions: dict[str, int] = {}
    handles = []
    for kind in HEADS:

        def note(module: nn.Module, inputs: tuple[Tensor, ...], kind: str = kind) -> None:
            regions[kind] = max(regions.get(kind, 0), len(inputs[0]))

        for head in _listed(model, f'roi_head.{kind}'):
            handles.append(head.register_forward_pre_hook(note))
    image = black_image(*shape)
    try:
        return count_by_module(model, lambda: detect(model, image)), regions
    finally:
        for handle in handles:
            handle.remove()


def _run_parts_on_meta(model: Any) -> None:
    """Move a detector's backbone, neck and heads to the meta device; what comes out of them is random."""
    generator = torch.Generator().manual_seed(0)

    def wrap(forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            args, kwargs = tree_map_only(Tensor, lambda t: t.to('meta'), (args, kwargs))
            outputs = forward(*args, **kwargs)
            return tree_map_only(
                Tensor, lambda t: torch.randn(t.shape, generator=generator), outputs
            )

        return run

    for name in PARTS:
        for module in _listed(model, name):
            module.to('meta')
            module.forward = wrap(module.forward)
    # Without a mask head nothing is computed of detections, and comparing thousands of them takes minutes.
    masks = getattr(getattr(model, 'roi_head', None), 'mask_head', None) is not None
    keep_all_scores(model, RANDOM_SCORE if masks else 1.0)
    for name in EXTRACTORS:
        for module in _listed(model, name):
            if type(module).__name__ in ('SingleRoIExtractor', 'RotatedSingleRoIExtractor'):
                module.forward = _empty_regions(module)


def _empty_regions(extractor: Any) -> Callable[..., Tensor]:
    """In place of an extractor's forward pass, which reads regions and has no multiply-adds to count."""
    size = extractor.roi_layers[0].output_size

    def forward(feats: Any, rois: Tensor, **_: Any) -> Tensor:
        return rois.new_zeros(len(rois), extractor.out_channels, *size)

    return forward


def _listed(model: nn.Module, name: str) -> list[Any]:
    """The module of that dotted name, or those of a ``ModuleList``; none where there is no such module."""
    module = dict(model.named_modules()).get(name)
    return list(module) if isinstance(module, nn.ModuleList) else [module] if module else []


def _rows(model: nn.Module, counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """The outermost modules that were called, those of a list joined; those of the backbone below it."""

    def row(name: str, depth: int, macs: int) -> dict[str, Any]:
        params = count_parameters(model.get_submodule(name))
        return {'name': name, 'depth': depth, 'params': params, 'macs': macs}

    rows = []
    joined: dict[str, int] = {}
    for name in _outermost(counts.keys() - {''}, counts):
        whole = re.sub(r'\.\d+$', '', name)
        joined[whole] = joined.get(whole, 0) + counts[name]
    for name, macs in joined.items():
        rows.append(row(name, 0, macs))
        if name == 'backbone':
            inside = {name for name in counts if name.startswith('backbone.')}
            rows += [row(n, 1, counts[n]) for n in _outermost(inside, counts) if counts[n]]
    return rows


def _outermost(names: set[str], order: Iterable[str]) -> list[str]:
    """Those of the dotted names that are inside no other, in the given order."""
    parents = {name: set(accumulate(name.split('.'), '{}.{}'.format)) for name in names}
    return [name for name in order if name in names and not names & (parents[name] - {name})]
