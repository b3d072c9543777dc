"""Latency of a network on the device of the run, and the limit on it.

Latencies are measured times, so no two runs have the same. A run times every network once; when it is resumed
it takes them from the trace.
"""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from mmpretrain.registry import MODELS

from ..arch import Architecture
from ..errors import InputError
from .evaluator import Measure, Measurement, Request

# A network runs for this many seconds, and at least this often.
SECONDS = 0.2
RUNS = 7
# Another measurement of the same network may come out slower by some per cent.
HEADROOM = 1.1


@dataclass(frozen=True)
class Clock:
    """Times the classifier of an architecture: one image, evaluation mode, random weights.

    Args:
        num_classes: classes of its head.
        img_size: pixels a side of the image.
        device: where it runs; on the CPU with as many threads as torch has.
    """

    num_classes: int
    img_size: int
    device: str | torch.device = 'cpu'

    def __call__(self, arch: Architecture) -> float:
        """Median of the forward pass in milliseconds, after a warm-up."""
        # On import torch warns if there is no CUDA to build extensions for.
        logging.getLogger('torch.utils.cpp_extension').setLevel(logging.ERROR)
        from torch.utils.benchmark import Timer

        images = torch.zeros(1, 3, self.img_size, self.img_size, device=self.device)
        timer = Timer(
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
        """The classifier that the configs train, on the device; the state of torch's generator is kept."""
        backbone = dict(type='asvit_mm.AsViT', arch=arch, img_size=self.img_size)
        width = arch.widths[-1]
        head = dict(
            type='VisionTransformerClsHead',
            num_classes=self.num_classes,
            in_channels=width,
            hidden_dim=width,
        )
        neck = dict(type='GlobalAveragePooling')
        with torch.random.fork_rng(devices=[]):
            model = MODELS.build(
                dict(type='ImageClassifier', backbone=backbone, neck=neck, head=head)
            )
        return model.eval().requires_grad_(False).to(self.device)


class Latency:
    """Latencies of a run, each network timed once, and their limit.

    Args:
        clock: times a network, in milliseconds.
        limit: milliseconds that no returned network exceeds.
        known: latencies of the run that is resumed, which are not measured again.

    Raises:
        InputError: the limit is not a positive number.
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
        """Why the network is too slow; None if it is not."""
        found = self(arch)
        return f'latency {found:g} ms exceeds {self.limit:g} ms' if found > self.limit else None

    def within_limit(self, networks: Iterable[Architecture], what: str) -> list[Architecture]:
        """The networks that are not too slow.

        Args:
            what: what they are called, in the plural.

        Raises:
            InputError: all are too slow; names the fastest.
        """
        networks = list(networks)
        kept = [arch for arch in networks if self(arch) <= self.limit]
        if not kept:
            fastest = min(networks, key=self)
            raise InputError(
                f'--max-latency {self.limit:g} is less than {what} take (the fastest, {fastest}: '
                f'{self(fastest):g} ms): give at least {_round_up(HEADROOM * self(fastest))}'
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
            if why is None:
                yield replace(next(measured), latency_ms=self.latency(arch))
            else:
                yield Measurement.refusal(why, self.latency(arch))


def _round_up(ms: float) -> str:
    """Two significant digits, not less than ``ms``."""
    unit = 10.0 ** (math.floor(math.log10(ms)) - 1)
    return f'{math.ceil(ms / unit) * unit:.6g}'
