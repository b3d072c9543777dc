"""What is done to an image before the network, in MMEngine's words and in timm's.

A config has a test pipeline and a data preprocessor for pixels of 0 to 255, timm a dict for pixels of 0 to 1.
Both resize with the same interpolation, but OpenCV (a config's default) and Pillow (timm's) weight the pixels
differently: values agree where an image has the network's size or the config resizes with Pillow, which
:func:`resize_with_pillow` makes it do.
"""

import math
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from .engine.config import is_detector, is_segmentor
from .errors import InputError
from .export.network import read_pixels
from .tokens import as_pair

LEVELS = 255
INTERPOLATIONS = ('nearest', 'bilinear', 'bicubic', 'box', 'hamming', 'lanczos')  # Pillow's
EXPRESSIBLE = 'Resize, with or without CenterCrop, or ResizeEdge (short side) and CenterCrop'


def preprocessing_of(cfg: Config) -> dict[str, Any]:
    """The preprocessing of a config's test images, as timm's ``pretrained_cfg`` has it.

    Images of a detector or a segmentor keep their size: the dict has mean, std and, as the size, that of the
    backbone's position embedding.

    Returns:
        input_size (channels, height, width), interpolation, crop_pct, crop_mode, mean and std of pixels of 0
        to 1.

    Raises:
        InputError: a pipeline or an order of channels that timm has no words for.
    """
    backbone = cfg.model.backbone
    channels = backbone.get('in_channels', 3)
    pixels = read_pixels(cfg, channels)
    if pixels.order == 'BGR' and pixels.mean:
        raise InputError(f'{cfg.filename}: its images are BGR, and those of timm RGB')
    found = dict(
        mean=tuple(value / LEVELS for value in pixels.mean or (0.0,) * channels),
        std=tuple(value / LEVELS for value in pixels.std or (1.0,) * channels),
    )
    if is_detector(cfg) or is_segmentor(cfg):
        size = as_pair(backbone.get('img_size', 224), 'img_size')
        geometry = dict(interpolation='bilinear', crop_pct=1.0, crop_mode='center')
    else:
        size, geometry = _geometry(cfg)
    return {'input_size': (channels, *size), **geometry, **found}


def resize_with_pillow(cfg: Config) -> bool:
    """Let the test and validation images of a classifier's config, in place, be resized as timm does.

    Returns:
        whether they were resized otherwise.
    """
    changed = False
    for pipeline in _pipelines(cfg):
        for step in pipeline:
            if str(step['type']).rpartition('.')[2] in ('Resize', 'ResizeEdge'):
                changed |= step.get('backend') != 'pillow'
                step['backend'] = 'pillow'
    return changed


def as_config(data: Mapping[str, Any]) -> dict[str, Any]:
    """The reverse: data preprocessor and test pipeline of what timm's ``resolve_data_config`` returns.

    Raises:
        InputError: timm crops otherwise than in the centre.
    """
    height, width = data['input_size'][1:]
    options = {'interpolation': data['interpolation'], 'backend': 'pillow'}
    edges = [math.floor(side / data['crop_pct']) for side in (height, width)]
    if data['crop_mode'] == 'squash':
        resize = dict(type='Resize', scale=(edges[1], edges[0]), **options)
    elif data['crop_mode'] == 'center':
        resize = dict(type='ResizeEdge', scale=min(edges), edge='short', **options)
    else:
        raise InputError(
            f"crop_mode {data['crop_mode']!r} of timm has no config: 'center' or 'squash'"
        )
    crop = dict(type='CenterCrop', crop_size=(height, width))
    pipeline = [dict(type='LoadImageFromFile'), resize, crop, dict(type='PackInputs')]
    mean, std = ([LEVELS * value for value in data[name]] for name in ('mean', 'std'))
    return {
        'data_preprocessor': dict(mean=mean, std=std, to_rgb=True),
        'test_pipeline': pipeline,
        'test_dataloader': dict(
            batch_size=64,
            dataset=dict(type='CustomDataset', data_root='data', pipeline=pipeline),
            sampler=dict(type='DefaultSampler', shuffle=False),
        ),
        'test_evaluator': dict(type='Accuracy', topk=(1,)),
        'test_cfg': dict(),
    }


def _geometry(cfg: Config) -> tuple[tuple[int, int], dict[str, Any]]:
    """(height, width) that the network sees, and how timm gets there from any image."""
    steps = {step['type'].removeprefix('mmpretrain.'): step for step in _pipeline(cfg)}
    steps = {k: v for k, v in steps.items() if not k.startswith(('LoadImage', 'PackInputs'))}
    first: Any = next(iter(steps.values()), {})
    crop = steps['CenterCrop']['crop_size'] if 'CenterCrop' in steps else None
    match tuple(steps):
        case ('Resize',) | ('Resize', 'CenterCrop') if not first.get('keep_ratio'):
            width, height = as_pair(first['scale'], 'scale')
            mode, scales = 'squash', (height, width)
        case ('ResizeEdge', 'CenterCrop') if first.get('edge', 'short') == 'short':
            mode, scales = 'center', as_pair(first['scale'], 'scale')
        case ():  # images that have the size
            mode, scales = 'center', as_pair(cfg.model.backbone.get('img_size', 224), 'img_size')
        case kinds:
            raise InputError(
                f'{cfg.filename}: timm has no words for the test pipeline {", ".join(kinds)}: '
                f'use {EXPRESSIBLE}'
            )
    size = scales if crop is None else as_pair(crop, 'crop_size')
    interpolation = first.get('interpolation', 'bilinear')
    if interpolation not in INTERPOLATIONS:
        raise InputError(
            f'{cfg.filename}: timm has no interpolation {interpolation!r}: one of '
            f'{", ".join(INTERPOLATIONS)}'
        )
    share = _crop_share(size, scales, str(cfg.filename))
    return size, dict(interpolation=interpolation, crop_pct=share, crop_mode=mode)


def _crop_share(size: tuple[int, int], scales: tuple[int, int], name: str) -> float:
    """timm's crop_pct: a side of the crop over that of the resized image, which timm rounds down."""
    for share in (size[0] / scales[0], size[0] / (scales[0] + 0.5)):
        if all(math.floor(a / share) == b for a, b in zip(size, scales, strict=True)):
            return share
    raise InputError(f'{name}: timm crops {scales} to {size} only if both sides have one ratio')


def _pipeline(cfg: Config) -> list[Any]:
    if not (found := _pipelines(cfg)):
        raise InputError(f'{cfg.filename or "the config"} has no test pipeline to describe')
    return list(found[0])


def _pipelines(cfg: Config) -> list[Any]:
    """The steps for test images: those of the loaders, and those that a config calls so."""
    datasets = [(cfg.get(f'{part}_dataloader') or {}).get('dataset') for part in ('test', 'val')]
    found = []
    for dataset in datasets:
        while dataset and 'dataset' in dataset:
            dataset = dataset['dataset']
        found.append((dataset or {}).get('pipeline'))
    return [pipeline for pipeline in (*found, cfg.get('test_pipeline')) if pipeline]
