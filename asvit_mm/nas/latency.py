"""Latency of a network on the device of the run, and the limit on it.

A latency is a measured time, so no two runs have the same. Within a run every network is timed once:
what the trace has is the run's latency of it, also for the run that goes on from there.
"""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from mmpretrain.registry import MODELS

from ..arch import Architecture
from ..errors import InputError
from ..measures import SEARCH_MEASURES, Score
from .evaluator import Measure, Measurement, Request

if TYPE_CHECKING:
    from torch.utils.benchmark import Timer

# A network that is slow enough runs this often; a fast one for this many seconds.
RUNS = 7
SECONDS = 0.2
# Another measurement of the same network may come out slower by some per cent.
HEADROOM = 1.1


@dataclass(frozen=True)
class Clock:
    """Times the classifier of an architecture: one image, evaluation mode, random weights.

    The number of threads is torch's at the time of the call.

    Args:
        num_classes: classes of its head.
        img_size: pixels a side of the image.
        device: where it runs.
    """

    num_classes: int
    img_size: int
    device: str | torch.device = 'cpu'

    def __call__(self, arch: Architecture) -> float:
        """Median of the forward pass in milliseconds, after a warm-up."""
        images = torch.zeros(1, 3, self.img_size, self.img_size, device=self.device)
        timer = _import_timer()(
            'model(images)',
            globals={'model': self.classifier(arch), 'images': images},
            num_threads=torch.get_num_threads(),
        )
        with torch.inference_mode():
            timer.timeit(1)
            once = timer.timeit(1).median
            seconds = timer.blocked_autorange(min_run_time=max(SECONDS, RUNS * once)).median
        return 1000 * seconds

    def classifier(self, arch: Architecture) -> torch.nn.Module:
        """The classifier that the configs train, on the device; torch's generator stays as it is."""
        width = arch.widths[-1]
        head = dict(
            type='VisionTransformerClsHead',
            num_classes=self.num_classes,
            in_channels=width,
            hidden_dim=width,
        )
        with torch.random.fork_rng(devices=[]):
            model = MODELS.build(
                dict(
                    type='ImageClassifier',
                    backbone=dict(type='asvit_mm.AsViT', arch=arch, img_size=self.img_size),
                    neck=dict(type='GlobalAveragePooling'),
                    head=head,
                )
            )
        return model.eval().requires_grad_(False).to(self.device)


class Latency:
    """Latencies of a run, each network timed once, and their limit.

    Args:
        clock: times a network, in milliseconds.
        limit: milliseconds that no returned network exceeds.
        known: latencies that are not to be measured again: those of a run that is resumed.

    Raises:
        InputError: the limit is no positive number.
    """

    def __init__(
        self,
        clock: Callable[[Architecture], float],
        limit: float,
        known: Mapping[Architecture, float] | None = None,
    ) -> None:
        if not 0 < limit < math.inf:
            raise InputError(f'--max-latency {limit:g} is no limit: give milliseconds, such as 30')
        self.clock = clock
        self.limit = limit
        self._known = dict(known or {})

    def __call__(self, arch: Architecture) -> float:
        """Milliseconds of the network, to 3 decimals."""
        if arch not in self._known:
            self._known[arch] = round(self.clock(arch), 3)
        return self._known[arch]

    def refusal(self, arch: Architecture) -> str | None:
        """Why the network is too slow; None where it keeps the limit."""
        found = self(arch)
        return f'latency {found:g} ms exceeds {self.limit:g} ms' if found > self.limit else None

    def keeping(self, networks: Iterable[Architecture], what: str) -> list[Architecture]:
        """Those of some networks that keep the limit.

        Args:
            what: they are called, in the plural.

        Raises:
            InputError: none does; names the fastest.
        """
        networks = list(networks)
        kept = [arch for arch in networks if self(arch) <= self.limit]
        if not kept:
            fastest = min(networks, key=self)
            raise InputError(
                f'--max-latency {self.limit:g} is less than {what} take (the fastest, {fastest}: '
                f'{self(fastest):g} ms): give at least {_rounded_up(HEADROOM * self(fastest))}'
            )
        return kept


class WithinLatency:
    """A measure that times every network first and does not measure one that is too slow.

    Args:
        measure: of the others.
        latency: of all.
    """

    def __init__(self, measure: Measure, latency: Latency) -> None:
        self.measure = measure
        self.latency = latency

    def __call__(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        """Measure the requests, in their order."""
        refusals = [self.latency.refusal(arch) for arch, _ in requests]
        measured = self.measure(
            [request for request, why in zip(requests, refusals, strict=True) if why is None]
        )
        for (arch, _), why in zip(requests, refusals, strict=True):
            found = next(measured) if why is None else too_slow(why)
            yield replace(found, latency_ms=self.latency(arch))


def too_slow(why: str) -> Measurement:
    """The measurement of a network that is not measured because of its latency."""
    return Measurement(Score.bad(why), Score.bad(why), refused=why)


def known_latencies(records: Iterable[Mapping[str, Any]]) -> dict[Architecture, float]:
    """The latencies that a trace holds, for :class:`Latency`.

    Raises:
        InputError: a record with a latency names no architecture.
    """
    found: dict[Architecture, float] = {}
    for record in records:
        taken = recorded_latency(record)
        if taken is not None:
            found.setdefault(Architecture.parse(str(record.get('arch'))), taken)
    return found


def is_refused(record: Mapping[str, Any]) -> bool:
    """Whether a record of a trace is of a network that was too slow to be measured."""
    # As measured_fields writes it: of what was measured, the reason begins with the measure's name.
    return 'bad' in record and not str(record['bad']).startswith(
        tuple(f'{name}: ' for name in SEARCH_MEASURES)
    )


def recorded_latency(record: Mapping[str, Any]) -> float | None:
    """The latency in a record of a trace; None where there is none, or no number."""
    taken = record.get('latency_ms')
    return taken if isinstance(taken, float) and math.isfinite(taken) else None


def _import_timer() -> type['Timer']:
    """torch's timer, without the warning that there is no CUDA to build extensions for."""
    logger = logging.getLogger('torch.utils.cpp_extension')
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        from torch.utils.benchmark import Timer
    finally:
        logger.setLevel(level)
    return Timer


def _rounded_up(ms: float) -> str:
    """Two significant digits, not less than ``ms``."""
    unit = 10.0 ** (math.floor(math.log10(ms)) - 1)
    return f'{math.ceil(ms / unit) * unit:.6g}'
