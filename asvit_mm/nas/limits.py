"""Limits on networks: parameters and multiply-adds in closed form, latency by the clock."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from mmpretrain.registry import MODELS

from ..arch import SEARCH_SPACE, Architecture, SearchSpace
from ..cost import count_macs, count_params
from ..errors import InputError
from .evaluator import Measure, Measurement, Request
from .space import Choices

# A network is timed for this many seconds, and for at least so many runs.
SECONDS = 0.2
RUNS = 7
# Another timing of the same network may come out slower by some per cent.
HEADROOM = 1.1


@dataclass(frozen=True)
class Budget:
    """What the classifier of an architecture may cost.

    Args:
        num_classes: classes of its head.
        img_size: pixels a side of its images.
        max_params: parameters; None: no limit.
        max_macs: multiply-adds per image; None: no limit.
    """

    num_classes: int
    img_size: int
    max_params: int | None = None
    max_macs: int | None = None

    def params(self, arch: Architecture) -> int:
        """Parameters of the classifier."""
        return count_params(arch, self.num_classes, img_size=self.img_size)

    def macs(self, arch: Architecture) -> int:
        """Multiply-adds of the classifier per image."""
        return count_macs(arch, self.img_size, self.num_classes)

    def fits(self, arch: Architecture) -> bool:
        """Whether the classifier is within every limit."""
        return all(count(arch) <= limit for _, _, limit, count in self._limits)

    def __str__(self) -> str:
        """The limits in words: '3,000,000 parameters or 400,000,000 multiply-adds'."""
        return ' or '.join(f'{limit:,} {what}' for _, what, limit, _ in self._limits) or 'no limit'

    def choices(self, space: SearchSpace = SEARCH_SPACE) -> Choices:
        """The choices of a search within these limits.

        Raises:
            InputError: no seed is; names the least that one needs.
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
        """Refuse limits that none of the networks, each called ``what``, is within.

        Raises:
            InputError: none is; names the least that one needs.
        """
        if any(map(self.fits, networks)):
            return
        for option, _, limit, count in self._limits:
            nearest = min(networks, key=count)
            if count(nearest) > limit:
                raise InputError(
                    f'{option} {limit:,} is less than the smallest {what} has ({nearest}): give at '
                    f'least {count(nearest):,}'
                )
        # Each limit alone can be met, so there are two: keep the second one and relax the first.
        (option, _, limit, count), (kept, _, most, other) = self._limits
        nearest = min((arch for arch in networks if other(arch) <= most), key=count)
        raise InputError(
            f'no {what} keeps {option} {limit:,} and {kept} {most:,} together: with the latter give '
            f'{option} at least {count(nearest):,} ({nearest})'
        )

    @property
    def _limits(self) -> list[tuple[str, str, int, Callable[[Architecture], int]]]:
        """Option, what it counts, limit and count, of each limit that is set."""
        limits = (
            ('--max-params', 'parameters', self.max_params, self.params),
            ('--max-flops', 'multiply-adds', self.max_macs, self.macs),
        )
        return [(option, what, m, count) for option, what, m, count in limits if m is not None]


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
            return 1000 * timer.blocked_autorange(min_run_time=max(SECONDS, RUNS * once)).median

    def classifier(self, arch: Architecture) -> torch.nn.Module:
        """The classifier that the configs train, on the device; the state of torch's generator is kept."""
        head = dict(
            type='VisionTransformerClsHead',
            num_classes=self.num_classes,
            in_channels=arch.widths[-1],
            hidden_dim=arch.widths[-1],
        )
        config = dict(
            type='ImageClassifier',
            backbone=dict(type='asvit_mm.AsViT', arch=arch, img_size=self.img_size),
            neck=dict(type='GlobalAveragePooling'),
            head=head,
        )
        with torch.random.fork_rng(devices=[]):
            model = MODELS.build(config)
        return model.eval().requires_grad_(False).to(self.device)


class Latency:
    """Latencies of a run, and their limit.

    Latencies are measured times, so no two runs have the same. A run times every network once; when it is
    resumed it takes them from the trace.

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
        """Milliseconds of the network, to 3 decimals."""
        if arch not in self._known:
            self._known[arch] = round(self.clock(arch), 3)
        return self._known[arch]

    def measure(self, measure: Measure, requests: Sequence[Request]) -> Iterator[Measurement]:
        """Time every network first, and let ``measure`` measure those that are not too slow."""
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
        """The networks, called ``what``, that are not too slow.

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
