"""An exported file beside eager torch: what it differs by, and how long both take."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ..utils.timing import median_and_spread, time_in_turn
from .formats import Exported
from .networks import Network

PROBED_BATCHES = (2, 1, 3)
CALLS, WARMUP = 9, 2


def probed_shapes(network: Network) -> list[tuple[int, int, int, int]]:
    """Shapes of input at which a file is held against eager torch."""
    height, width = network.size
    step, smallest, channels = network.step, network.smallest, network.channels
    shapes = [(batch, channels, height, width) for batch in PROBED_BATCHES]
    if step:
        shapes += [
            (2, channels, height + step, width + 2 * step),
            (1, channels, smallest + step, smallest),
        ]
    return shapes


def images_of(network: Network, shape: Sequence[int]) -> Tensor:
    """Noise of ``shape``, always the same: normalised images, or pixels where the network takes them."""
    generator = torch.Generator().manual_seed(0)
    return (
        255 * torch.rand(*shape, generator=generator)
        if network.raw
        else torch.randn(*shape, generator=generator)
    )


def largest_difference(
    network: Network, exported: Exported, shapes: Iterable[Sequence[int]]
) -> float:
    """Between outputs of the network and of its export, for images of ``shapes``.

    NaN where one difference is, infinite where an output has another shape.
    """
    found = []
    for shape in shapes:
        images = images_of(network, shape)
        for own, other in zip(network.module(images), exported(images), strict=True):
            same = own.shape == other.shape
            found.append(float((own - other).abs().max()) if same else math.inf)
    # Not max() alone: a NaN that is not the first would be lost.
    return math.nan if any(map(math.isnan, found)) else max(found)


def time_both(network: Network, exported: Exported, images: Tensor) -> tuple[float, float]:
    """Milliseconds of a call, eager and exported: medians of calls in turn."""
    calls = (lambda: network.module(images), lambda: exported(images))
    time_in_turn(calls, 'cpu', WARMUP)
    eager, other = (median_and_spread(s)[0] * 1e3 for s in time_in_turn(calls, 'cpu', CALLS))
    return eager, other
