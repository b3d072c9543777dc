"""Part "training": CIFAR-10 for the same time with and without progressive tokenization.

A plain recipe, so that the GPU is what is timed: all images lie on the device as tensors, which are cropped,
flipped and enlarged there.
"""

import io
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...data.images import read_image
from ...models.classifier import build_classifier, classifier_config
from ...token_schedule import (
    PUBLISHED_LENGTH,
    STRIDES,
    phase_at,
    phases_of_run,
    read_schedule,
)
from ...utils.timing import now
from ..bench_training import read_split
from ..plain_training import Images, accuracy
from .rows import Context, Figures, Job, Skipped

# 27 M parameters; on 64 x 64 pixels the four stages have 16, 8, 4 and 2 tokens per side, at stride 16 4, 2, 1
# and 1.
# With a large batch it keeps a GPU busy: what tokens save would not show where the CPU cannot follow.
ARCH = '8,2,3,2|4,1,2,2|2,1,4,6|2,1,4,2|32,96'
QUICK_ARCH = '8,2,2,1|2,1,2,1|2,1,2,1|2,1,2,1|16,16'
SIZE, SIDE, CLASSES, SPLITS = 64, 32, 10, ('train', 'test')
QUICK_IMAGES = 40  # of each class
BATCH, LEARNING_RATE, WEIGHT_DECAY, WARMUP = 1024, 1.5e-3, 0.05, 0.05
SCHEDULE = '80-140'


def jobs(context: Context) -> Iterator[Job]:
    """Two runs of equal time, which share what the part has."""
    data = _Cifar10(context)
    table = f'CIFAR-10, images of {SIZE} x {SIZE} pixels, bfloat16 autocast, eager'
    name = 'reading the images'
    yield Job(table, name, data.describe)
    for progressive in (False, True):
        name = f'progressive tokenization {SCHEDULE}' if progressive else 'full grid'
        parts = 1 if progressive else 2
        yield Job(table, name, partial(_train, context, data, progressive, parts), limit=300)


class _Cifar10:
    """The training and the test images, on the device."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def describe(self) -> Figures:
        """How many there are, and the seconds that reading them took."""
        begin = time.time()
        counts = dict(zip(SPLITS, (len(images.labels) for images in self.splits), strict=True))
        return {
            **{f'{name}_images': n for name, n in counts.items()},
            'read_s': time.time() - begin,
        }

    @cached_property
    def splits(self) -> tuple[Images, Images]:
        """Read from a folder or from an npz file."""
        if self.context.cifar10 is None:
            raise Skipped('no images: give --cifar10')
        path, device = self.context.cifar10, torch.device(self.context.device)
        most = QUICK_IMAGES if self.context.quick else None
        if Path(path).is_dir():
            return read_split(path, SIDE, device, most)
        train, test = (_from_npz(path, name, most).to(device) for name in SPLITS)
        return train, test


def _from_npz(path: str, split: str, most: int | None) -> Images:
    """JPEG bodies behind one common header; of each class at most the first ``most``."""
    with np.load(path) as data:
        header, body = data['header'].tobytes(), data[f'{split}_data'].tobytes()
        offsets, labels = data[f'{split}_offsets'], data[f'{split}_labels']
    kept = np.sort(np.concatenate([np.flatnonzero(labels == k)[:most] for k in np.unique(labels)]))
    bounds = list(pairwise(offsets))
    files = (io.BytesIO(header + body[a:b]) for a, b in (bounds[i] for i in kept))
    with ThreadPoolExecutor() as pool:
        pixels = np.stack(list(pool.map(lambda file: np.asarray(read_image(file)), files)))
    return Images(torch.from_numpy(pixels), torch.from_numpy(labels[kept]).long())


def _train(context: Context, data: _Cifar10, progressive: bool, parts: int) -> Figures:
    """Train for an equal part of the time that is left; learning rate and phase follow the clock."""
    train, test = data.splits
    images, labels = train.pixels, train.labels
    batch = min(16 if context.quick else BATCH, len(labels))
    torch.manual_seed(0)
    config = classifier_config(QUICK_ARCH if context.quick else ARCH, CLASSES, img_size=SIZE)
    model: Any = build_classifier(config, seed=0).train().to(context.device)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        fused=context.device == 'cuda' or None,
    )
    phases = phases_of_run(read_schedule(SCHEDULE), PUBLISHED_LENGTH)
    _warm_up(context, model, optimizer, images[:batch], labels[:batch])
    # A tenth is for testing, and for what is not foreseen.
    seconds = 1.0 if context.quick else 0.9 * context.left() / parts
    begin = now(context.device)
    share, seen, stride, steps = 0.0, 0, STRIDES[-1], dict.fromkeys(STRIDES, 0)
    while share < 1:
        for index in torch.randperm(len(labels), device=context.device).split(batch)[
            : len(labels) // batch
        ]:
            if progressive:
                stride = phase_at(phases, int(share * PUBLISHED_LENGTH)).strides[0]
            model.backbone.set_token_stride(stride)
            for group in optimizer.param_groups:
                group['lr'] = LEARNING_RATE * min(1, share / WARMUP) * _cosine(share)
            _step(context, model, optimizer, _augmented(images[index]), labels[index])
            seen, steps[stride] = seen + batch, steps[stride] + 1
            # A look at the clock waits for the device: rarely.
            if sum(steps.values()) % 8 == 0 or context.quick:
                share = (now(context.device) - begin) / seconds
                if share >= 1:
                    break
    taken = now(context.device) - begin
    model.backbone.set_token_stride(STRIDES[-1])
    with context.autocast():
        top1 = accuracy(model, test, _prepared, batch=1000)
    return {
        'accuracy_percent': top1,
        'train_s': taken,
        'epochs': seen / len(labels),
        'images_per_s': seen / taken,
        'steps_at_16_8_4': [steps[stride] for stride in STRIDES],
    }


def _warm_up(
    context: Context,
    model: Any,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
) -> None:
    """A step at every stride with learning rate 0: libraries choose their kernels outside the timed part."""
    for group in optimizer.param_groups:
        group['lr'] = 0.0
    for stride in STRIDES:
        model.backbone.set_token_stride(stride)
        _step(context, model, optimizer, _augmented(images), labels)


def _step(
    context: Context,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
) -> None:
    with context.autocast():
        scores = model(images)
    F.cross_entropy(scores.float(), labels, label_smoothing=0.1).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _cosine(share: float) -> float:
    """From 1 down to 0 over the run."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def _augmented(pixels: Tensor) -> Tensor:
    """Bytes (B, 32, 32, 3), each shifted by up to 4 pixels and flipped at random, as :func:`_prepared`."""
    count, side, device = len(pixels), pixels.shape[1], pixels.device
    padded = F.pad(pixels, (0, 0, 4, 4, 4, 4))
    top, left = torch.randint(0, 9, (2, count, 1), device=device)
    rows, columns = (corner + torch.arange(side, device=device) for corner in (top, left))
    flip = torch.rand(count, 1, device=device) < 0.5
    columns = torch.where(flip, columns.flip(1), columns)
    batch = torch.arange(count, device=device)[:, None, None]
    return _prepared(padded[batch, rows[:, :, None], columns[:, None, :]])


def _prepared(pixels: Tensor) -> Tensor:
    """Bytes (B, H, W, 3) to images of about [-2, 2], enlarged to the training size."""
    images = (pixels.float() / 63.75 - 2).permute(0, 3, 1, 2)
    return F.interpolate(images, (SIZE, SIZE), mode='bilinear')
