"""Measures of an architecture, averaged over freshly initialized networks."""

import dataclasses
import itertools
import time
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from ..arch import Architecture
from ..errors import InputError
from ..tokens import ImageSize, as_pair
from .probe import ProbeNetwork
from .registry import SEARCH_MEASURES, find_measures
from .score import Score


def measure(
    arch: Architecture,
    images: Tensor | None,
    *,
    names: Sequence[str] = SEARCH_MEASURES,
    img_size: ImageSize,
    repeat: int = 5,
    seed: int | Sequence[int] = 0,
    device: str | torch.device = 'cpu',
    dtype: torch.dtype = torch.float32,
    memory_limit: int | None = None,
) -> dict[str, Score]:
    """Measures of ``arch``, each the mean over ``repeat`` freshly initialized networks.

    As in the published search, images and curves are fixed for a run while every call draws fresh weights,
    each network has its own batch and curve, and there is no position embedding.

    Args:
        images: (repeat, B, 3, height, width), one batch per network; may be None if no measure needs
            images.
        names: of :data:`~asvit_mm.measures.MEASURES`; the result has their order.
        img_size: pixels of the images on the curve, one side or (height, width).
        repeat: number of networks.
        seed: determines everything. A sequence is (seed of the run, further numbers such as the step): the
            curves depend on the first number only, the weights on all of them.
        device: where the networks run. Weights are drawn on the CPU, so they are the same on any device.
        dtype: float32 or float64.
        memory_limit: bytes that the activations of one measure may take, for measures that can run in
            several passes; None: no limit.

    Raises:
        InputError: an unknown measure, or ``images`` that are missing or not one batch per network.

    Warns:
        UserWarning: a batch has identical images, so that its NTK condition number is undefined.
    """
    if repeat < 1:
        raise InputError(f'repeat = {repeat} is not allowed: measure at least 1 network')
    check_images(images, repeat, names=names, img_size=img_size)
    networks = []
    for index in range(repeat):
        batch = None if images is None else images[index]
        probe = ProbeNetwork(arch, img_size, seed, index, batch, device, dtype, memory_limit)
        networks.append(measure_network(probe, names))
    return {name: Score.mean([scores[name] for scores in networks]) for name in networks[0]}


def measure_network(
    probe: ProbeNetwork, names: Sequence[str] = SEARCH_MEASURES
) -> dict[str, Score]:
    """Measures of a single network, with their times; their order does not matter."""
    scores = {}
    for info in find_measures(names):
        for need in info.needs:
            getattr(probe, need)
        start = _now(probe.device)
        score = info.compute(probe)
        scores[info.name] = dataclasses.replace(score, seconds=_now(probe.device) - start)
    return scores


def _now(device: str | torch.device) -> float:
    """Time in seconds, once the device has finished all work."""
    if torch.device(device).type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter()


def check_images(
    images: Tensor | None, repeat: int, *, names: Sequence[str], img_size: ImageSize
) -> None:
    """Check the images of :func:`measure`, which has the same arguments, errors and warnings."""
    measures = find_measures(names)
    if not any('images' in info.needs for info in measures):
        return
    wanted = 'give (repeat, batch, 3, height, width)'
    if images is None:
        raise InputError(f'a measure needs images and there are none: {wanted}')
    height, width = as_pair(img_size)
    if images.ndim != 5 or len(images) != repeat or images.shape[2:] != (3, height, width):
        raise InputError(
            f'images of shape {tuple(images.shape)} do not fit repeat = {repeat} and {height} x {width} '
            f'pixels: {wanted}'
        )
    if any(info.name == 'ntk_condition_number' for info in measures):
        _warn_of_identical_images(images)


def _warn_of_identical_images(images: Tensor) -> None:
    for index, batch in enumerate(images):
        for (i, a), (j, b) in itertools.combinations(enumerate(batch), 2):
            if torch.equal(a, b):
                warnings.warn(
                    f'images {i} and {j} of the batch of network {index + 1} are identical, so its NTK '
                    'condition number is undefined: give images that differ',
                    stacklevel=4,  # the caller of measure()
                )
                return
