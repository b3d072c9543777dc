"""What the searches need of a measured network, and the measure that they use."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from ..arch import Architecture
from ..measures import SEARCH_MEASURES, ProbeNetwork, Score, check_images, measure_network
from .rewards import Value


@dataclass(frozen=True)
class Measurement:
    """What the search knows of an architecture without training it.

    Attributes:
        latency_ms: milliseconds an image, in a run that limits them.
        refused: why the network was not measured; both scores are bad then.
    """

    length_distortion: Score
    ntk_condition_number: Score
    latency_ms: float | None = None
    refused: str | None = None


# An architecture, and which draw of its weights: from 0 on, where it is measured more than once.
Request = tuple[Architecture, int]


class Measure(Protocol):
    """Measures architectures, one after the other as the result is iterated over.

    A measurement depends on the request only, never on its place in a run or on what ran before it.
    """

    def __call__(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        """Measure the requests, in their order."""


@dataclass(frozen=True)
class ComplexityMeasure:
    """The published measure: batches and curves fixed for the run, fresh weights a measurement.

    Args:
        images: (repeat, batch, 3, img_size, img_size), one batch a network.
        img_size: pixels a side.
        seed: the run's; with the architecture and the draw it decides the weights.
        device: where networks run.

    Raises:
        InputError: ``images`` of another shape.
    """

    images: torch.Tensor
    img_size: int
    seed: int = 0
    device: str | torch.device = 'cpu'

    def __post_init__(self) -> None:
        check_images(self.images, self.repeat, names=SEARCH_MEASURES, img_size=self.img_size)

    @property
    def repeat(self) -> int:
        """Networks that a measurement averages over."""
        return len(self.images)

    def __call__(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        """Measure the requests, in their order."""
        for request in requests:
            yield combine([self.network(request, r) for r in range(self.repeat)])

    def network(
        self, request: Request, number: int, names: Sequence[str] = SEARCH_MEASURES
    ) -> dict[str, Score]:
        """Measures of one of the request's networks, from 0 on; all together they are a measurement."""
        arch, draw = request
        seed = (self.seed, *arch.numbers, draw)
        batch = self.images[number]
        return measure_network(
            ProbeNetwork(arch, self.img_size, seed, number, batch, self.device), names
        )


def combine(networks: Sequence[Mapping[str, Score]]) -> Measurement:
    """The measurement of an architecture from the scores of its networks."""
    length, kappa = (Score.mean([n[name] for n in networks]) for name in SEARCH_MEASURES)
    return Measurement(length_distortion=length, ntk_condition_number=kappa)


class Memo:
    """Measures every architecture once and recalls it afterwards, at no cost.

    Args:
        measure: asked for what is not known.
        remeasure: whether an architecture that comes again is measured anew, with fresh weights.
        known: measurements that are not to be made again: those of a run that is resumed.

    Attributes:
        measured: measurements that this run asked for; neither recalled ones nor refusals count.
    """

    def __init__(
        self,
        measure: Measure,
        *,
        remeasure: bool = False,
        known: Mapping[Request, Measurement] | None = None,
    ) -> None:
        self.measure = measure
        self.remeasure = remeasure
        self.measured = 0
        self._known = dict(known or {})
        self._asked: Counter[Architecture] = Counter()

    def __call__(self, archs: Sequence[Architecture]) -> Iterator[tuple[Measurement, bool]]:
        """Measure or recall the architectures, in their order.

        Yields:
            the measurement, and whether it is that of an architecture that came before.
        """
        requests = []
        for arch in archs:
            requests.append(
                (arch, self._asked[arch] if self.remeasure else 0, self._asked[arch] > 0)
            )
            self._asked[arch] += 1
        unknown = dict.fromkeys(r[:2] for r in requests if r[:2] not in self._known)
        measured = self.measure(list(unknown)) if unknown else iter(())
        for arch, draw, again in requests:
            if (arch, draw) not in self._known:
                self._known[arch, draw] = next(measured)
            measurement, recalled = self._known[arch, draw], again and not self.remeasure
            self.measured += not recalled and measurement.refused is None
            yield measurement, recalled


def usable(score: Score) -> Value:
    """The value of a valid, finite score, otherwise None."""
    return float(score.value) if score.valid and math.isfinite(score.value) else None


def measured_fields(measurement: Measurement) -> dict[str, Any]:
    """Plain data of a measurement: the two values, and for a None the reason under ``bad``.

    In a run that limits the latency there is ``latency_ms`` too.
    """
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
    if measurement.latency_ms is not None:
        fields['latency_ms'] = measurement.latency_ms
    return {**fields, 'bad': measurement.refused or '; '.join(bad)} if bad else fields
