"""Limits on networks: parameters and multiply-adds in closed form, latency by the clock."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from ..arch import SEARCH_SPACE, Architecture, SearchSpace
from ..cost import count_macs, count_params
from ..errors import InputError
from ..models.classifier import build_classifier, classifier_config
from .evaluator import Measure, Measurement, Request
from .space import Choices

# A network is timed for at least this many seconds and runs.
SECONDS = 0.2
RUNS = 7
# Factor on a latency in advice to the user: timing the same network again may give some per cent more.
HEADROOM = 1.1


@dataclass(frozen=True)
class Budget:
    """Limits on the parameters and multiply-adds of an architecture's classifier.

    Args:
        num_classes: classes of its head.
        img_size: pixels per side of its images.
        max_params: parameters; None: no limit.
        max_macs: multiply-adds per image; None: no limit.
        in_channels: channels of its images.
    """

    num_classes: int
    img_size: int
    max_params: int | None = None
    max_macs: int | None = None
    in_channels: int = 3

    def params(self, arch: Architecture) -> int:
        """Parameters of the classifier."""
        return count_params(
            arch, self.num_classes, img_size=self.img_size, in_channels=self.in_channels
        )

    def macs(self, arch: Architecture) -> int:
        """Multiply-adds of the classifier per image."""
        return count_macs(arch, self.img_size, self.num_classes, in_channels=self.in_channels)

    def fits(self, arch: Architecture) -> bool:
        """Whether the classifier is within every limit."""
        return all(limit.count(arch) <= limit.value for limit in self._limits)

    def usage(self, arch: Architecture) -> float:
        """Share that the classifier uses of the tighter limit; 0 if there is no limit."""
        return max((limit.count(arch) / limit.value for limit in self._limits), default=0.0)

    def __str__(self) -> str:
        """The limits in words: '3,000,000 parameters or 400,000,000 multiply-adds'."""
        return ' or '.join(f'{x.value:,} {x.unit}' for x in self._limits) or 'no limit'

    def choices(self, space: SearchSpace = SEARCH_SPACE) -> Choices:
        """The choices of a search within these limits.

        Raises:
            InputError: no seed is within them; names the least limit that allows one.
        """
        self.check(self.smallest_seeds(space), 'seed')
        return Choices(space, self.fits, self.macs) if self._limits else Choices(space)

    def smallest_seeds(self, space: SearchSpace = SEARCH_SPACE) -> list[Architecture]:
        """The seed with the fewest parameters and multiply-adds, with every number of heads.

        One seed has the fewest of both: kernels and expansions count in both, splits in multiply-adds
        only, and heads in neither at the widths of a seed.
        """
        smallest = space.decode(Choices(space, self.fits, self.macs).cheapest)
        return [replace(smallest, heads=heads) for heads in space.choices['H']]

    def check(self, networks: Sequence[Architecture], what: str) -> None:
        """Check that at least one of the networks is within the limits.

        Args:
            what: a network in the message, such as 'seed'.

        Raises:
            InputError: none is; names the least limit that allows one.
        """
        if any(map(self.fits, networks)):
            return
        for limit in self._limits:
            nearest = min(networks, key=limit.count)
            if limit.count(nearest) > limit.value:
                raise InputError(
                    f'{limit} is less than the smallest {what} has ({nearest}): give at '
                    f'least {limit.count(nearest):,}'
                )
        # Each limit alone can be met, so there are two: keep the second one and relax the first.
        relaxed, kept = self._limits
        within = [arch for arch in networks if kept.count(arch) <= kept.value]
        nearest = min(within, key=relaxed.count)
        raise InputError(
            f'no {what} keeps {relaxed} and {kept} together: with the latter give '
            f'{relaxed.option} at least {relaxed.count(nearest):,} ({nearest})'
        )

    def explain(
        self, arch: Architecture, larger: Sequence[Architecture], because: str
    ) -> list[dict[str, Any]]:
        """How much of each limit a network uses, and why it leaves the rest; plain data for the result.

        Args:
            larger: the networks that could come next.
            because: why none of those came that would be within the limits.

        Returns:
            for each limit ``limit`` (its option), ``unit``, ``value``, ``used`` and ``why``.
        """
        fitting = any(map(self.fits, larger))
        explained = []
        for limit in self._limits:
            # Within all other limits, so that the figure says what this limit alone would allow.
            others = [x for x in self._limits if x is not limit]
            blocked = [a for a in larger if limit.count(a) > limit.value]
            alone = [a for a in blocked if all(x.count(a) <= x.value for x in others)]
            if fitting or not larger:
                why = because
            elif not alone and len(blocked) < len(larger):
                exceeded = [x.option for x in others if any(x.count(a) > x.value for a in larger)]
                why = f'every larger network exceeds {" or ".join(exceeded)}'
            else:
                nearest = min(limit.count(a) for a in alone or blocked)
                why = f'the next larger network would have {nearest:,}'
            explained.append(
                {
                    'limit': limit.option,
                    'unit': limit.unit,
                    'value': limit.value,
                    'used': limit.count(arch),
                    'why': why,
                }
            )
        return explained

    @property
    def _limits(self) -> list['_Limit']:
        """The limits that are set."""
        limits = []
        if self.max_params is not None:
            limits.append(_Limit('--max-params', 'parameters', self.max_params, self.params))
        if self.max_macs is not None:
            limits.append(_Limit('--max-flops', 'multiply-adds', self.max_macs, self.macs))
        return limits


@dataclass(frozen=True)
class _Limit:
    """One limit of a budget: ``count`` of a network is at most ``value``."""

    option: str
    unit: str
    value: int
    count: Callable[[Architecture], int]

    def __str__(self) -> str:
        return f'{self.option} {self.value:,}'


@dataclass(frozen=True)
class Clock:
    """Times the classifier of an architecture: one image, evaluation mode, random weights, float32.

    Args:
        num_classes: classes of its head.
        img_size: pixels per side of the image.
        device: where it runs; on the CPU with as many threads as torch has.
        deploy: makes a call of a network with images, in another runtime than torch; None: torch.
        in_channels: channels of the image.
    """

    num_classes: int
    img_size: int
    device: str | torch.device = 'cpu'
    deploy: Callable[[torch.nn.Module, torch.Tensor], Callable[[], Any]] | None = None
    in_channels: int = 3

    def __call__(self, arch: Architecture) -> float:
        """Median time of the forward pass in milliseconds, after a warm-up."""
        # On import torch warns if there is no CUDA to build extensions for.
        logging.getLogger('torch.utils.cpp_extension').setLevel(logging.ERROR)
        from torch.utils.benchmark import Timer

        images = torch.zeros(1, self.in_channels, self.img_size, self.img_size, device=self.device)
        model = self.classifier(arch)
        call = partial(model, images) if self.deploy is None else self.deploy(model, images)
        timer = Timer(
            'call()',
            globals={'call': call},
            num_threads=torch.get_num_threads(),
        )
        with torch.inference_mode():
            timer.timeit(1)
            once = timer.timeit(1).median
            return 1000 * timer.blocked_autorange(min_run_time=max(SECONDS, RUNS * once)).median

    def classifier(self, arch: Architecture) -> torch.nn.Module:
        """The classifier that the configs train, on the device; the state of torch's generator is kept."""
        config = classifier_config(
            arch, self.num_classes, img_size=self.img_size, in_channels=self.in_channels
        )
        return build_classifier(config).eval().requires_grad_(False).to(self.device)


class Latency:
    """The latency limit of a run, and the latencies that it has measured.

    Measured times differ from run to run. So each network is timed once, and a resumed run takes its latency
    from the trace.

    Args:
        clock: times a network, in milliseconds.
        limit: milliseconds that no returned network exceeds.
        known: latencies of the run that is resumed.

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
        """Latency of the network in milliseconds, to 3 decimals."""
        if arch not in self._known:
            self._known[arch] = round(self.clock(arch), 3)
        return self._known[arch]

    def measure(self, measure: Measure, requests: Sequence[Request]) -> Iterator[Measurement]:
        """Time all networks, then ``measure`` those within the limit; the others are refused."""
        fast = [request for request in requests if self(request[0]) <= self.limit]
        measured = measure(fast)
        for arch, _ in requests:
            latency = self(arch)
            if latency <= self.limit:
                yield replace(next(measured), latency_ms=latency)
            else:
                why = f'latency {latency:g} ms exceeds {self.limit:g} ms'
                yield Measurement.refusal(why, latency)

    def within_limit(self, networks: Iterable[Architecture], what: str) -> list[Architecture]:
        """The networks within the limit.

        Args:
            what: the networks in the message, such as 'the smallest seeds'.

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


def _round_up(ms: float) -> str:
    """Two significant digits, not less than ``ms``."""
    unit = 10.0 ** (math.floor(math.log10(ms)) - 1)
    return f'{math.ceil(ms / unit) * unit:.6g}'
