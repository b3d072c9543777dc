"""Both measures of an architecture, averaged over freshly initialised networks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..arch import Architecture
from ..errors import InputError
from ..models import AsViT
from .length_distortion import curve_basis, length_distortion
from .ntk import ntk_condition_number
from .score import Score

# Streams of one seed: the weights of a network and the curve that it is measured on.
_WEIGHTS, _CURVE = 0, 1


@dataclass(frozen=True)
class Measurement:
    """What is known of an architecture without training it."""

    length_distortion: Score
    ntk_condition_number: Score


def measure(
    arch: Architecture,
    images: Tensor,
    *,
    img_size: int | tuple[int, int],
    repeat: int = 5,
    seed: int | Sequence[int] = 0,
    device: str | torch.device = 'cpu',
    dtype: torch.dtype = torch.float32,
) -> Measurement:
    """L^E and kappa of ``arch``, averaged over ``repeat`` freshly initialised networks.

    As in the published search, the batches and the curves stay fixed in a run while every call
    draws fresh weights, each network has its own batch and curve, and there is no position embedding.

    Args:
        images: (repeat, B, 3, height, width), one batch of images a network.
        img_size: pixels of the curve's images, one side or (height, width).
        repeat: networks to average over.
        seed: decides everything. A sequence is (the run's seed, further numbers such as the step): the
            curves depend on the first number only, the weights on all of them.
        device: where the networks run; weights are drawn on the CPU, so that they are the same everywhere.

    Raises:
        InputError: ``images`` do not hold one batch a network.
    """
    if images.ndim != 5 or len(images) != repeat:
        raise InputError(
            f'images of shape {tuple(images.shape)} do not fit repeat = {repeat}: give '
            '(repeat, batch, 3, height, width)'
        )
    seeds = (seed,) if isinstance(seed, int) else tuple(seed)
    lengths, conditions = [], []
    for r in range(repeat):
        network = fresh_network(arch, (_WEIGHTS, *seeds, r)).to(device, dtype)
        plain = without_norms(network)
        curve = torch.Generator().manual_seed(_derive((_CURVE, seeds[0], r)))
        basis = curve_basis(img_size, curve, images.shape[2])
        lengths.append(length_distortion(plain, basis, img_size))
        conditions.append(ntk_condition_number(network, images[r].to(device, dtype)))
    return Measurement(Score.mean(lengths), Score.mean(conditions))


def fresh_network(arch: Architecture, seed: Sequence[int]) -> AsViT:
    """A freshly initialised network on the CPU, without position embedding, decided by ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_derive(seed))
        return AsViT(arch, use_abs_pos_embed=False)


def without_norms(network: AsViT) -> AsViT:
    """The same network with identity norms; it shares every other parameter with ``network``."""
    with torch.device('meta'):
        plain = AsViT(network.architecture, use_abs_pos_embed=False, norm_cfg=None)
    missing = plain.load_state_dict(network.state_dict(), strict=False, assign=True).missing_keys
    assert not missing, missing
    return plain


def _derive(seed: Sequence[int]) -> int:
    """One 63-bit seed from several numbers, without collisions between neighbouring ones."""
    return int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> 1)
