"""What the searches need of a measured network, and the measure that they use."""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from ..arch import Architecture
from ..complexity import SEARCH_MEASURES, Score, measure
from .rewards import Value


@dataclass(frozen=True)
class Measurement:
    """What the search knows of an architecture without training it."""

    length_distortion: Score
    ntk_condition_number: Score


class Measure(Protocol):
    """Measures an architecture; ``key`` numbers the measurement and decides its random weights.

    The search passes the step, scaling the step and the candidate, so that a measurement depends on
    its place in the run only, never on what ran before it.
    """

    def __call__(self, arch: Architecture, *key: int) -> Measurement:
        """Measure ``arch`` with the weights that ``key`` decides."""


def complexity_measure(
    images: torch.Tensor,
    *,
    img_size: int,
    repeat: int,
    seed: int,
    device: str | torch.device = 'cpu',
) -> Measure:
    """The published measure: batches and curves fixed for the run, fresh weights a measurement.

    Args:
        images: (repeat, batch, 3, img_size, img_size), one batch a network.
        seed: the run's; with the measurement's key it decides the weights.
    """

    def measure_one(arch: Architecture, *key: int) -> Measurement:
        scores = measure(
            arch,
            images,
            names=SEARCH_MEASURES,
            img_size=img_size,
            repeat=repeat,
            seed=(seed, *key),
            device=device,
        )
        return Measurement(**scores)

    return measure_one


def usable(score: Score) -> Value:
    """The value of a valid, finite score, otherwise None."""
    return float(score.value) if score.valid and math.isfinite(score.value) else None


def measured_fields(measurement: Measurement) -> dict[str, Any]:
    """Plain data of a measurement: the two values, and for a None the reason under ``bad``."""
    scores = {
        'length_distortion': measurement.length_distortion,
        'ntk_condition_number': measurement.ntk_condition_number,
    }
    fields: dict[str, Any] = {name: usable(score) for name, score in scores.items()}
    bad = [
        f'{name}: {score.reason or "not finite"}'
        for name, score in scores.items()
        if fields[name] is None
    ]
    return {**fields, 'bad': '; '.join(bad)} if bad else fields
