"""Train a classifier on small images that are all in memory, without a data loader.

The recipe is the one that :mod:`asvit_mm.config_writer.recipes` writes for small images. Everything random
about the data (order, crops, flips, erased and mixed areas) is drawn from the seed before training, so that
a run sees the same batches on every device. On a GPU, where networks of a few million multiply-adds are
limited by the launches of their kernels, a step is one CUDA graph, and several networks train side by side.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError

WARM_UP_STEPS = 3


@dataclass(frozen=True, kw_only=True)
class PlainRecipe:
    """How long and how a classifier is trained.

    Args:
        epochs: over the training images; the last, incomplete batch of an epoch is dropped.
        batch: images per step.
        lr: learning rate after the warm-up, which is followed by a cosine down to ``final`` times it.
        warmup: share of the run.
        padding: pixels by which a crop may leave the image.
        strong: whether brightness, contrast and colour vary, a square is erased from a quarter of the images,
            and half of the batches are mixed by CutMix (arXiv 1905.04899).
    """

    epochs: int
    batch: int = 128
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    final: float = 0.01
    clip: float = 1.0
    label_smoothing: float = 0.1
    padding: int = 4
    strong: bool = False

    def learning_rates(self, steps: int) -> Tensor:
        """The learning rate of every step."""
        up = max(1, round(self.warmup * steps))
        done = torch.arange(steps, dtype=torch.float64)
        cosine = 0.5 * (1 + torch.cos(math.pi * (done - up) / max(1, steps - up)))
        share = torch.where(done < up, (done + 1) / up, self.final + (1 - self.final) * cosine)
        return (self.lr * share).float()


@dataclass
class Images:
    """Images (N, H, W, 3) in bytes and their labels (N,), on the device that trains."""

    pixels: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> 'Images':
        """The same on a device."""
        return Images(self.pixels.to(device), self.labels.to(device))


@dataclass
class TrainedNetwork:
    """What training gave.

    Attributes:
        top1: per cent of the test images that are classified correctly.
        losses: of every step, on its training batch.
        seconds: of the training, together with that of the networks beside it.
    """

    top1: float
    losses: Tensor
    seconds: float
    model: nn.Module


class Normalize:
    """Bytes (B, H, W, 3) to images (B, 3, H, W) with the mean and deviation of a set."""

    def __init__(self, pixels: Tensor) -> None:
        sample = pixels[:: max(1, len(pixels) // 5000)].float().reshape(-1, 3)
        self.mean, self.std = sample.mean(0), sample.std(0)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Normalised images, channels first."""
        return ((pixels.float() - self.mean) / self.std).permute(0, 3, 1, 2)


class _Draws:
    """What is random about the data of all steps, as tensors whose first axis is the step."""

    def __init__(self, recipe: PlainRecipe, count: int, side: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        batches = count // recipe.batch
        self.steps = recipe.epochs * batches
        shape = self.steps, recipe.batch
        epochs = (torch.randperm(count, generator=generator) for _ in range(recipe.epochs))
        self.order = torch.cat([epoch[: batches * recipe.batch] for epoch in epochs]).view(shape)
        self.corner = torch.randint(2 * recipe.padding + 1, (*shape, 2), generator=generator)
        self.flip = torch.rand(shape, generator=generator) < 0.5
        if recipe.strong:
            # Gains of brightness, contrast and colour; erased squares; share and corner of CutMix's box.
            self.gains = 1 + 0.4 * (2 * torch.rand((*shape, 3), generator=generator) - 1)
            self.erased = torch.randint(side, (*shape, 2), generator=generator)
            self.erased[torch.rand(shape, generator=generator) >= 0.25] = 2 * side
            box = torch.rand(self.steps, generator=generator).sqrt() * side
            box[torch.rand(self.steps, generator=generator) < 0.5] = 0
            self.box = box.round().long()
            self.place = torch.rand((self.steps, 2), generator=generator)

    def to(self, device: torch.device) -> '_Draws':
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(device))
        return self


class _Trainer:
    """One network in training; ``step`` does the next step."""

    def __init__(
        self, model: nn.Module, recipe: PlainRecipe, images: Images, normalize: Normalize, seed: int
    ) -> None:
        device = images.pixels.device
        self.model, self.recipe, self.images, self.normalize = model, recipe, images, normalize
        side = images.pixels.shape[1] - 2 * recipe.padding
        self.draws = _Draws(recipe, len(images.labels), side, seed).to(device)
        self.steps = self.draws.steps
        rates = recipe.learning_rates(self.steps)
        self.rates = torch.cat([rates, rates.new_zeros(1)]).to(device)
        self.losses = torch.zeros(self.steps + 1, device=device)
        self.number = torch.zeros(1, dtype=torch.long, device=device)
        self.pixel = torch.arange(side, device=device)
        cuda = device.type == 'cuda'
        self.rate = torch.zeros((), device=device)
        self.optimizer = torch.optim.AdamW(
            _decay_groups(model, recipe.weight_decay),
            lr=self.rate,
            fused=cuda or None,
            capturable=cuda,
        )

    def step(self) -> None:
        """Forward, backward and update; all that depends on the step's number is read on the device."""
        self.rate.copy_(self.rates[self.number][0])
        pixels, labels, other, share = self._batch()
        scores = self.model(self.normalize(pixels))
        smoothing = self.recipe.label_smoothing
        loss = F.cross_entropy(scores, labels, label_smoothing=smoothing)
        if share is not None:
            mixed = F.cross_entropy(scores, other, label_smoothing=smoothing)
            loss = share * loss + (1 - share) * mixed
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.losses.index_copy_(0, self.number, loss.detach()[None])
        self.number.add_(1)

    def captured(self) -> Callable[[], None]:
        """``step`` as a CUDA graph, after steps that leave no trace."""
        # A learning rate of 0 changes no weight; the optimizer's state and running statistics are put back.
        kept = [(buffer, buffer.clone()) for buffer in self.model.buffers()]
        self.number.fill_(self.steps)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_STEPS):
                self.step()
                self.number.fill_(self.steps)
            for state in self.optimizer.state.values():
                for value in state.values():
                    value.zero_()
            for buffer, value in kept:
                buffer.copy_(value)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream, capture_error_mode='thread_local'):
                self.step()
            self.number.zero_()
        self.graph = graph  # which owns the memory

        def replay() -> None:
            with torch.cuda.stream(stream):
                graph.replay()

        return replay

    def _batch(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Bytes (B, H, W, 3), labels, and with CutMix the labels of pasted areas and the rest's share."""
        draws = self.draws
        number = self.number.clamp(max=self.steps - 1)
        order, corner, flip = (x[number][0] for x in (draws.order, draws.corner, draws.flip))
        columns = torch.where(flip[:, None], self.pixel.flip(0), self.pixel) + corner[:, 1:]
        rows = self.pixel + corner[:, :1]
        pixels = self.images.pixels[order[:, None, None], rows[:, :, None], columns[:, None, :]]
        labels = self.images.labels[order]
        if not self.recipe.strong:
            return pixels, labels, labels, None
        pixels = _vary(pixels.float(), draws.gains[number][0])
        erased, side = draws.erased[number][0], len(self.pixel)
        inside = [(self.pixel - erased[:, k : k + 1]).abs() < side // 5 for k in (0, 1)]
        area = (inside[0][:, :, None] & inside[1][:, None, :])[..., None]
        pixels = torch.where(area, self.normalize.mean, pixels)
        box, place = draws.box[number], draws.place[number][0]
        starts = (place * (side - box + 1)).long()
        inside = [(self.pixel >= start) & (self.pixel < start + box) for start in starts]
        area = (inside[0][:, None] & inside[1])[..., None]
        share = 1 - box[0] ** 2 / side**2
        return torch.where(area, pixels.flip(0), pixels), labels, labels.flip(0), share


def _vary(pixels: Tensor, gains: Tensor) -> Tensor:
    """Brightness, contrast and colour of float images (B, H, W, 3) by gains (B, 3)."""
    brightness, contrast, colour = (gain[:, None, None, None] for gain in gains.unbind(1))
    pixels = pixels * brightness
    mean = pixels.mean((1, 2, 3), keepdim=True)
    pixels = mean + contrast * (pixels - mean)
    grey = pixels.mean(3, keepdim=True)
    return (grey + colour * (pixels - grey)).clamp(0, 255)


def _decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """No decay for vectors and position embeddings, as in the written recipes."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    flat = [p for name, p in named if p.ndim <= 1 or 'pos_embed' in name]
    rest = [p for name, p in named if not (p.ndim <= 1 or 'pos_embed' in name)]
    return [dict(params=rest, weight_decay=weight_decay), dict(params=flat, weight_decay=0.0)]


def train_side_by_side(
    models: Sequence[nn.Module],
    seeds: Sequence[int],
    recipe: PlainRecipe,
    train: Images,
    test: Images,
) -> list[TrainedNetwork]:
    """Train classifiers (images to logits) on the device of ``train``; they do not influence each other.

    Args:
        seeds: of each one's data; its initial weights are the model's.

    Raises:
        InputError: fewer images than a batch.
    """
    if len(train.labels) < recipe.batch:
        raise InputError(
            f'{len(train.labels)} training images are fewer than a batch of {recipe.batch}: give more '
            'images, or a smaller batch'
        )
    device = train.pixels.device
    normalize = Normalize(train.pixels)
    pad = recipe.padding
    # Crops beyond the edge see the mean colour.
    padded = (
        normalize.mean.round()
        .to(torch.uint8)
        .repeat(len(train.pixels), *(side + 2 * pad for side in train.pixels.shape[1:3]), 1)
    )
    padded[:, pad : padded.shape[1] - pad, pad : padded.shape[2] - pad] = train.pixels
    images = Images(padded, train.labels)
    trainers = [
        _Trainer(model.to(device).train(), recipe, images, normalize, seed)
        for model, seed in zip(models, seeds, strict=True)
    ]
    cuda = device.type == 'cuda'
    steps = [trainer.captured() if cuda else trainer.step for trainer in trainers]
    begin = time.perf_counter()
    for _ in range(trainers[0].steps):
        for step in steps:
            step()
    if cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - begin
    return [
        TrainedNetwork(
            accuracy(trainer.model, test, normalize),
            trainer.losses[:-1].cpu(),
            seconds,
            trainer.model,
        )
        for trainer in trainers
    ]


@torch.no_grad()
def accuracy(
    model: nn.Module, test: Images, normalize: Callable[[Tensor], Tensor], batch: int = 500
) -> float:
    """Per cent of right answers."""
    model.eval()
    pairs = zip(test.pixels.split(batch), test.labels.split(batch), strict=True)
    right = sum((model(normalize(x)).argmax(1) == y).sum() for x, y in pairs)
    return 100 * float(right) / len(test.labels)
