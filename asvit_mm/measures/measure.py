"""Measures of an architecture, averaged over freshly initialised networks."""

import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType

import torch
from torch import Tensor

from ..arch import Architecture
from ..errors import InputError
from ..tokens import as_pair
from .probe import Subject
from .registry import SEARCH_MEASURES, find_measures
from .score import Score

# Streams of one seed: the weights of a network and the curve that it is measured on.
_WEIGHTS, _CURVE = 0, 1


@dataclass(frozen=True)
class Timed:
    """A score, of a network or over several, and the mean time of a network in seconds.

    The time is that of the measure alone: the network, its copy without norms, the curve and the images on
    the device, which measures share, are made before.
    """

    score: Score
    seconds: float


def measure(
    arch: Architecture,
    images: Tensor | None,
    *,
    names: Sequence[str] = SEARCH_MEASURES,
    img_size: int | tuple[int, int],
    repeat: int = 5,
    seed: int | Sequence[int] = 0,
    device: str | torch.device = 'cpu',
    dtype: torch.dtype = torch.float32,
    memory_limit: int | None = None,
) -> dict[str, Score]:
    """Measures of ``arch``, each the mean over ``repeat`` freshly initialised networks.

    As in the published search, the batches and the curves stay fixed in a run while every call
    draws fresh weights, each network has its own batch and curve, and there is no position embedding.

    Args:
        images: (repeat, B, 3, height, width), one batch of images a network; may be None where no
            measure looks at any.
        names: of :data:`~asvit_mm.measures.MEASURES`; the result has their order.
        img_size: pixels of the curve's images, one side or (height, width).
        repeat: networks to average over.
        seed: decides everything. A sequence is (the run's seed, further numbers such as the step): the
            curves depend on the first number only, the weights on all of them.
        device: where the networks run; weights are drawn on the CPU, so that they are the same everywhere.
        dtype: float32 or float64.
        memory_limit: bytes that the activations of one measure may take, where it can compute in parts;
            None: no limit.

    Raises:
        InputError: an unknown measure, or ``images`` that are missing or not one batch a network.

    Warns:
        UserWarning: a batch has identical images, so that it has no NTK condition number.
    """
    timed = measure_timed(
        arch,
        images,
        names=names,
        img_size=img_size,
        repeat=repeat,
        seed=seed,
        device=device,
        dtype=dtype,
        memory_limit=memory_limit,
    )
    return {name: value.score for name, value in timed.items()}


def measure_timed(
    arch: Architecture,
    images: Tensor | None,
    *,
    names: Sequence[str] = SEARCH_MEASURES,
    img_size: int | tuple[int, int],
    repeat: int = 5,
    seed: int | Sequence[int] = 0,
    device: str | torch.device = 'cpu',
    dtype: torch.dtype = torch.float32,
    memory_limit: int | None = None,
) -> dict[str, Timed]:
    """What :func:`measure` returns, with the time of each measure; takes and raises the same."""
    measures = find_measures(names)
    if repeat < 1:
        raise InputError(f'repeat = {repeat} networks have no mean: give at least 1')
    check_images(images, repeat, names=names, img_size=img_size)
    scores: dict[str, list[Score]] = {info.name: [] for info in measures}
    seconds = dict.fromkeys(scores, 0.0)
    for r in range(repeat):
        found = measure_network(
            arch,
            None if images is None else images[r],
            r,
            names=names,
            img_size=img_size,
            seed=seed,
            device=device,
            dtype=dtype,
            memory_limit=memory_limit,
        )
        for name, timed in found.items():
            scores[name].append(timed.score)
            seconds[name] += timed.seconds
    return {name: Timed(Score.mean(scores[name]), seconds[name] / repeat) for name in scores}


def measure_network(
    arch: Architecture,
    batch: Tensor | None,
    network: int,
    *,
    names: Sequence[str] = SEARCH_MEASURES,
    img_size: int | tuple[int, int],
    seed: int | Sequence[int] = 0,
    device: str | torch.device = 'cpu',
    dtype: torch.dtype = torch.float32,
    memory_limit: int | None = None,
) -> dict[str, Timed]:
    """The measures of one of the networks that :func:`measure` averages over, with their times.

    It does not depend on which measures and which other networks are asked for, so the networks of a
    measurement can be shared out.

    Args:
        batch: images (B, 3, height, width) of this network; may be None where no measure looks at any.
        network: its number, from 0.

    The other arguments are those of :func:`measure`, which checks the images.
    """
    seeds = (seed,) if isinstance(seed, int) else tuple(seed)
    subject = Subject(
        arch,
        img_size,
        weights_seed=(_WEIGHTS, *seeds, network),
        curve_seed=(_CURVE, seeds[0], network),
        batch=batch,
        device=device,
        dtype=dtype,
        memory_limit=memory_limit,
    )
    found = {}
    for info in find_measures(names):
        for need in info.needs:
            getattr(subject, need)
        started = _now(device)
        score = info.compute(subject)
        found[info.name] = Timed(score, _now(device) - started)
    return found


def _now(device: str | torch.device) -> float:
    """Seconds on a clock, when all that the device was asked to do is done."""
    if torch.device(device).type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter()


def check_images(
    images: Tensor | None, repeat: int, *, names: Sequence[str], img_size: int | tuple[int, int]
) -> None:
    """Check once what :func:`measure_network` takes of ``images`` batch by batch.

    Takes, raises and warns as :func:`measure` does.
    """
    measures = find_measures(names)
    if not any('images' in info.needs for info in measures):
        return
    wanted = 'give (repeat, batch, 3, height, width)'
    if images is None:
        raise InputError(f'no images, and a measure looks at them: {wanted}')
    height, width = as_pair(img_size)
    if images.ndim != 5 or len(images) != repeat or images.shape[2:] != (3, height, width):
        raise InputError(
            f'images of shape {tuple(images.shape)} do not fit repeat = {repeat} and {height} x {width} '
            f'pixels: {wanted}'
        )
    if any(info.name == 'ntk_condition_number' for info in measures):
        _warn_of_identical_images(images)


def _warn_of_identical_images(images: Tensor) -> None:
    """Warn of the first batch of (repeat, B, C, H, W) with two images that are the same."""
    for r, batch in enumerate(images.flatten(2)):
        # A sample of the pixels tells almost all images apart; only the rest is compared in full.
        groups = torch.unique(
            batch[:, :: max(1, batch.shape[1] // 64)], dim=0, return_inverse=True
        )[1]
        seen: dict[int, list[int]] = {}
        for i, group in enumerate(groups.tolist()):
            earlier = seen.setdefault(group, [])
            same = next((j for j in earlier if torch.equal(batch[i], batch[j])), None)
            if same is not None:
                warnings.warn(
                    f'images {same} and {i} of the batch of network {r + 1} are identical, so it has no '
                    'NTK condition number: give images that differ',
                    stacklevel=_level_outside_package(),
                )
                return
            earlier.append(i)


def _level_outside_package() -> int:
    """``stacklevel`` with which a warning of the caller names the line that called the package."""
    package, level = __name__.partition('.')[0], 1
    frame: FrameType | None = sys._getframe(1)
    while frame and frame.f_globals.get('__name__', '').partition('.')[0] == package:
        frame, level = frame.f_back, level + 1
    return level
