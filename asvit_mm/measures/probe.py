"""What is measured: one freshly initialised network, and the inputs that measures take."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..arch import Architecture
from ..errors import InputError
from ..models import AsViT
from .length_distortion import curve_basis


@dataclass
class Subject:
    """One network of an architecture with its inputs; each is made when a measure first asks for it.

    Args:
        arch: the architecture.
        img_size: pixels of the curve's images and of images of ones, one side or (height, width).
        weights_seed: numbers that decide the network's weights.
        curve_seed: numbers that decide the plane of the curve.
        batch: images (B, 3, height, width) of this network, or None where no measure takes any.
        device: where the network runs; weights are drawn on the CPU, so that they are the same everywhere.
        dtype: of network and images.
        memory_limit: bytes that the activations of one measure may take; None: no limit.
    """

    arch: Architecture
    img_size: int | tuple[int, int]
    weights_seed: Sequence[int]
    curve_seed: Sequence[int]
    batch: Tensor | None = None
    device: str | torch.device = 'cpu'
    dtype: torch.dtype = torch.float32
    memory_limit: int | None = None

    @cached_property
    def network(self) -> AsViT:
        """The network, with its norms and without position embedding."""
        return fresh_network(self.arch, self.weights_seed).to(self.device, self.dtype)

    @cached_property
    def plain(self) -> AsViT:
        """The same network with identity norms; it shares the parameters."""
        return without_norms(self.network)

    @cached_property
    def basis(self) -> Tensor:
        """Basis of the curve's plane (D, 2), float64 on the CPU."""
        channels = self.network.patch_embed.proj.in_channels
        curve = torch.Generator().manual_seed(derive(self.curve_seed))
        return curve_basis(self.img_size, curve, channels)

    @cached_property
    def images(self) -> Tensor:
        """The batch where the network is.

        Raises:
            InputError: there is none.
        """
        if self.batch is None:
            raise InputError('a measure looks at images and there are none: give some')
        return self.batch.to(self.device, self.dtype)


def fresh_network(arch: Architecture, seed: Sequence[int]) -> AsViT:
    """A freshly initialised network on the CPU, without position embedding, decided by ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed))
        return AsViT(arch, use_abs_pos_embed=False)


def without_norms(network: AsViT) -> AsViT:
    """The same network with identity norms; it shares every other parameter with ``network``."""
    with torch.device('meta'):
        plain = AsViT(network.architecture, use_abs_pos_embed=False, norm_cfg=None)
    missing = plain.load_state_dict(network.state_dict(), strict=False, assign=True).missing_keys
    assert not missing, missing
    return plain


def derive(seed: Sequence[int]) -> int:
    """One 63-bit seed from several numbers, without collisions between neighbouring ones."""
    return int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> 1)
