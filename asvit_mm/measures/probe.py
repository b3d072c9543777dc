"""The probe network, one freshly initialized network of an architecture, and the inputs of the measures."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..arch import Architecture
from ..errors import InputError
from ..models import AsViT
from ..tokens import ImageSize, as_pair
from .any_model import AnyModel, without_norms

Probed = AsViT | AnyModel
# What is measured: an architecture, or what creates a network with fresh weights.
Subject = Architecture | Callable[[], AnyModel]

# Independent random streams of one seed.
_WEIGHTS, _CIRCLE = 0, 1


@dataclass(frozen=True)
class ImageCircle:
    """Images h(t) = U [cos t, sin t] on a great circle in the space of images.

    Args:
        basis: U (D, 2), orthonormal columns, D = channels * height * width.
        img_size: pixels of the images, one side or (height, width).
        num_angles: number of angles t, evenly spaced from 0 to 2 pi, both ends included.
    """

    basis: Tensor
    img_size: ImageSize
    num_angles: int = 10

    @classmethod
    def random(
        cls,
        img_size: ImageSize,
        generator: torch.Generator,
        channels: int = 3,
        num_angles: int = 10,
    ) -> 'ImageCircle':
        """A circle in a random plane: U are the left singular vectors of a Gaussian D x 2 matrix."""
        height, width = as_pair(img_size)
        gaussian = torch.randn(
            channels * height * width, 2, generator=generator, dtype=torch.float64
        )
        return cls(torch.linalg.svd(gaussian, full_matrices=False)[0], img_size, num_angles)

    def images(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """The images h(t) and their derivatives h'(t), both (num_angles, channels, height, width).

        Args:
            like: gives the device and the dtype of the result; the circle itself is computed in float64.
        """
        shape = (self.num_angles, -1, *as_pair(self.img_size))
        angles = torch.linspace(0, 2 * math.pi, self.num_angles, dtype=torch.float64)
        cos, sin = angles.cos(), angles.sin()
        basis = self.basis.cpu().double()
        images, derivatives = (
            (basis @ torch.stack(pair)).T.reshape(shape).to(like)
            for pair in ((cos, sin), (-sin, cos))
        )
        return images, derivatives


@dataclass
class ProbeNetwork:
    """One network of an architecture with the inputs of the measures; each is created on first access.

    Args:
        arch: an architecture, or a function that creates a network of another kind with fresh weights.
        img_size: pixels of the images on the circle and of images of ones, one side or (height, width).
        seed: (seed of the run, further numbers such as the step); the circle depends on the first number
            only, the weights on all of them.
        index: which of the networks of this seed, from 0.
        batch: images (B, C, height, width) for this network; None if no measure needs any (C = 3).
        device: where the network runs. Weights are drawn on the CPU, so they are the same on any device.
        dtype: of the network and the images.
        memory_limit: bytes that the activations of one measure may take, for measures that can run in
            several passes; None: no limit.
    """

    arch: Subject
    img_size: ImageSize
    seed: Sequence[int] = (0,)
    index: int = 0
    batch: Tensor | None = None
    device: str | torch.device = 'cpu'
    dtype: torch.dtype = torch.float32
    memory_limit: int | None = None

    @property
    def in_channels(self) -> int:
        """Channels of the images."""
        return 3 if self.batch is None else self.batch.shape[1]

    @cached_property
    def network(self) -> Probed:
        """The network, with its norms; As-ViT's without position embedding."""
        seed = (_WEIGHTS, *self.seed, self.index)
        network = fresh_network(self.arch, seed, self.in_channels)
        return network.to(self.device, self.dtype)

    @cached_property
    def norm_free(self) -> Probed:
        """The same network with identity norms; it shares the parameters."""
        norm_free: Probed = without_norms(self.network)
        return norm_free

    @cached_property
    def circle(self) -> ImageCircle:
        """The images on which the length distortion and the curvatures are measured."""
        seed = combine_seeds((_CIRCLE, self.seed[0], self.index))
        generator = torch.Generator().manual_seed(seed)
        return ImageCircle.random(self.img_size, generator, self.network.in_channels)

    @cached_property
    def images(self) -> Tensor:
        """The batch on the device and in the precision of the network; an InputError if there is none."""
        if self.batch is None:
            raise InputError('this measure needs images: pass a batch of images')
        return self.batch.to(self.device, self.dtype)


def fresh_network(arch: Subject, seed: Sequence[int], in_channels: int = 3) -> Any:
    """A freshly initialized network on the CPU, As-ViT without position embedding; ``seed`` determines it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(combine_seeds(seed))
        if not isinstance(arch, Architecture):
            return arch()
        return AsViT(arch, in_channels=in_channels, use_abs_pos_embed=False)


def combine_seeds(seed: Sequence[int]) -> int:
    """One 63-bit seed from several numbers; similar numbers give unrelated seeds."""
    return int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> 1)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode (no dropout) inside the block; afterwards every module has its own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def pooled_tokens(model: Probed, parameters: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """``model.pooled_tokens`` (B, C4) of images (B, C, H, W), with other values of named parameters
    (and buffers)."""
    renamed = {f'model.{name}': value for name, value in parameters.items()}
    return functional_call(_PooledTokens(model), renamed, (images,))


class _PooledTokens(nn.Module):
    # functional_call calls a module's forward, and the model's own forward includes the output norm.
    def __init__(self, model: Probed) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.pooled_tokens(images)
