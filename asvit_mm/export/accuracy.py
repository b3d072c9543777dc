"""Accuracy of a written classifier on the test set of its config, beside that of eager torch."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader

from ..engine.config import check_data, is_detector, require
from ..errors import InputError
from .network import LOGITS, ExportNetwork


def build_loader(cfg: Config, network: ExportNetwork) -> DataLoader[Any]:
    """The loader of a config's test set.

    Raises:
        InputError: the network has no logits, or the data are not there.
    """
    if is_detector(cfg) or network.outputs != LOGITS:
        raise InputError('--evaluate: only logits of a classifier have an accuracy')
    if network.raw and network.channels != 3:
        raise InputError(
            f'--raw and --evaluate: images of {network.channels} channels have no order RGB: leave one of '
            'them out'
        )
    require(cfg, ['test_dataloader'], '--evaluate')
    check_data(cfg, ['test_dataloader'])
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmpretrain'):
        loader: DataLoader[Any] = Runner.build_dataloader(cfg.test_dataloader)
    return loader


def count_right(
    loader: DataLoader[Any],
    calls: Sequence[Callable[[Tensor], Sequence[Tensor]]],
    network: ExportNetwork,
) -> list[int]:
    """How many images of the test set each of ``calls`` gets right; they take what the network takes."""
    right = [0] * len(calls)
    for batch in loader:
        images = prepare(torch.stack(batch['inputs']), network)
        labels = torch.cat([sample.gt_label for sample in batch['data_samples']])
        for i, call in enumerate(calls):
            right[i] += int((call(images)[0].argmax(1) == labels).sum())
    return right


def prepare(pixels: Tensor, network: ExportNetwork) -> Tensor:
    """Images (N, channels, H, W) as a pipeline packs them (BGR, 0 to 255) to those that the network takes."""
    images, settings = pixels.float(), network.pixels
    if settings.order == 'RGB' or (network.raw and settings.order):
        images = images.flip(1)
    if network.raw or not settings.mean:
        return images
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (settings.mean, settings.std))
    return (images - mean) / std
