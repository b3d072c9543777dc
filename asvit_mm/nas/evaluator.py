"""Measurements of architectures in a search: what they hold, what makes them, and which are reused."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..arch import Architecture
from ..measures import SEARCH_MEASURES, ProbeNetwork, Score, check_images, measure_network
from .ranking import Value


@dataclass(frozen=True)
class Measurement:
    """The two measures of an architecture, and its latency if there is a limit on it.

    Attributes:
        latency_ms: milliseconds per image; None in a run without a limit.
        refused: why the network was not measured at all; both scores are invalid then.
    """

    length_distortion: Score
    ntk_condition_number: Score
    latency_ms: float | None = None
    refused: str | None = None

    @classmethod
    def refusal(cls, why: str, latency_ms: float | None = None) -> 'Measurement':
        """The measurement of a network that is not measured."""
        return cls(Score.bad(why), Score.bad(why), latency_ms, why)

    @property
    def values(self) -> tuple[Value, Value]:
        """L^E and kappa, None where there is no finite value."""
        return usable(self.length_distortion), usable(self.ntk_condition_number)

    @property
    def invalid(self) -> dict[str, str]:
        """Name of each measure without a value, and the reason."""
        scores = (self.length_distortion, self.ntk_condition_number)
        return {
            name: score.reason or 'not finite'
            for name, score in zip(SEARCH_MEASURES, scores, strict=True)
            if usable(score) is None
        }

    @property
    def problem(self) -> str:
        """Why a value is missing, in one line; empty if none is."""
        return self.refused or '; '.join(f'{name}: {why}' for name, why in self.invalid.items())

    def to_record(self) -> dict[str, Any]:
        """Plain data: the two values; ``latency_ms``, ``invalid`` and ``refused`` where there are any."""
        record: dict[str, Any] = dict(zip(SEARCH_MEASURES, self.values, strict=True))
        if self.latency_ms is not None:
            record['latency_ms'] = self.latency_ms
        if self.refused is not None:
            record['refused'] = self.refused
        elif self.invalid:
            record['invalid'] = self.invalid
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> 'Measurement':
        """The measurement that :meth:`to_record` wrote.

        A malformed record is not refused: its measurement has another record, which a resumed run detects.
        """
        latency = record.get('latency_ms')
        if not (isinstance(latency, float) and math.isfinite(latency)):
            latency = None
        if 'refused' in record:
            return cls.refusal(str(record['refused']), latency)
        reasons = record.get('invalid')
        reasons = reasons if isinstance(reasons, Mapping) else {}
        values = {name: record.get(name) for name in SEARCH_MEASURES}
        length, kappa = (
            Score(value) if isinstance(value, float) else Score.bad(str(reasons.get(name)))
            for name, value in values.items()
        )
        return cls(length, kappa, latency)


# An architecture, and the number of the draw of its weights: 0, then 1, 2, ... where it is measured again.
Request = tuple[Architecture, int]

# Measures the requests lazily and in order. A measurement depends on its request only, not on its place in a
# run or on what was measured before.
Measure = Callable[[Sequence[Request]], Iterator[Measurement]]


@dataclass(frozen=True)
class ComplexityMeasure:
    """Both measures as published: images and circles are fixed for the run, every request has fresh weights.

    Args:
        images: (repeat, batch, channels, img_size, img_size), one batch per network to average over.
        img_size: pixels per side.
        seed: of the run; together with the architecture and the number of the draw it determines the weights.
        device: where networks run.

    Raises:
        InputError: ``images`` of another shape.
    """

    images: torch.Tensor
    img_size: int
    seed: int = 0
    device: str | torch.device = 'cpu'

    def __post_init__(self) -> None:
        check_images(self.images, len(self.images), names=SEARCH_MEASURES, img_size=self.img_size)

    def __call__(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        """Measure the requests, in their order."""
        for request in requests:
            yield combine([self.network(request, r) for r in range(len(self.images))])

    def network(
        self, request: Request, number: int, names: Sequence[str] = SEARCH_MEASURES
    ) -> dict[str, Score]:
        """Measures of network ``number`` of the request; those of all networks make a measurement."""
        arch, draw = request
        seed = (self.seed, *arch.numbers, draw)
        batch = self.images[number]
        return measure_network(
            ProbeNetwork(arch, self.img_size, seed, number, batch, self.device), names
        )


def combine(networks: Sequence[Mapping[str, Score]]) -> Measurement:
    """The measurement of an architecture from the scores of its networks."""
    length, kappa = (Score.mean([n[name] for n in networks]) for name in SEARCH_MEASURES)
    return Measurement(length, kappa)


class Memo:
    """Measures every architecture once and reuses the measurement afterwards.

    Args:
        measure: makes the measurements that are not known.
        remeasure: whether an architecture that is asked for again is measured anew, with fresh weights.
        known: measurements of the run that is resumed, which are not made again.

    Attributes:
        measured: number of measurements in this run that were neither reused nor refused.
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
        """Measure the architectures, in their order, or reuse what is known.

        Yields:
            the measurement, and whether it is that of an architecture that came before.
        """
        requests: list[tuple[Request, bool]] = []
        for arch in archs:
            before = self._asked[arch]
            requests.append(((arch, before if self.remeasure else 0), before > 0))
            self._asked[arch] += 1
        unknown = dict.fromkeys(request for request, _ in requests if request not in self._known)
        measured = self.measure(list(unknown)) if unknown else iter(())
        for request, again in requests:
            if request not in self._known:
                self._known[request] = next(measured)
            measurement, recalled = self._known[request], again and not self.remeasure
            self.measured += not recalled and measurement.refused is None
            yield measurement, recalled


def usable(score: Score) -> Value:
    """The value of a valid, finite score, otherwise None."""
    return float(score.value) if score.valid and math.isfinite(score.value) else None
