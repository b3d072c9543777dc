"""Auto-scaling of a seed without training (As-ViT, arXiv 2202.11921, section 3.4)."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from ..arch import MAX_WIDTH, NUM_STAGES, SEED_DEPTHS, Architecture
from ..errors import InputError
from .budget import Budget
from .evaluator import Measurement, Memo, measured_fields
from .latency import Latency, too_slow
from .rewards import fill_with_worst, rank_networks

START_WIDTH = 8
WIDTH_FACTOR = 4
WIDTH_GROWTH = (0.05, 0.10, 0.15, 0.20)

Size = tuple[tuple[int, ...], int]


def next_sizes(depths: tuple[int, ...], proxy_width: int) -> list[Size]:
    """(depths, proxy width) of a step's candidates: one more layer in one stage x a wider proxy.

    Widths are rounded as Python rounds (halves to even), duplicates dropped; a small width may thus
    stay as it is.
    """
    grown = (round(proxy_width * (1 + growth)) for growth in WIDTH_GROWTH)
    widths = [w for w in dict.fromkeys(grown) if w * WIDTH_FACTOR <= MAX_WIDTH]
    deeper = [
        tuple(depth + (stage == i) for i, depth in enumerate(depths)) for stage in range(NUM_STAGES)
    ]
    return [(depths, width) for depths in deeper for width in widths]


class AutoScaling:
    """Grows a seed step by step; every step adds one network to the series.

    Candidates are measured as proxies, 1/4 as wide as the real network; costs and latency are the real
    network's. A candidate without kappa is chosen only where no candidate has one (L^E decides
    then), a candidate without L^E never.

    Args:
        topology: whose kernels, splits, expansions and heads are kept; its size is not looked at.
        measure: of the proxies.
        budget: candidates that exceed it are dropped.
        min_params: growing stops at the first network with at least this many parameters; None: where
            no candidate is left.
        latency: candidates that are too slow are not measured, and never chosen.

    Raises:
        InputError: no network can meet the budget; says what would be possible.
    """

    def __init__(
        self,
        topology: Architecture,
        measure: Memo,
        budget: Budget,
        *,
        min_params: int | None = None,
        latency: Latency | None = None,
    ) -> None:
        self.topology = topology
        self.measure = measure
        self.budget = budget
        self.min_params = min_params
        self.latency = latency
        self.depths: tuple[int, ...] = SEED_DEPTHS
        self.proxy_width = START_WIDTH
        self.series: list[dict[str, Any]] = []
        self.stopped: str | None = None
        self._check_budget()

    @property
    def start(self) -> Architecture:
        """The real network that scaling starts from (not part of the series)."""
        return self.real((SEED_DEPTHS, START_WIDTH))

    @property
    def first(self) -> list[Architecture]:
        """The real networks of the first step's candidates, whatever the limits."""
        return [self.real(size) for size in next_sizes(SEED_DEPTHS, START_WIDTH)]

    def real(self, size: Size) -> Architecture:
        """The network of a size at its real width, 4 times the proxy's."""
        return self.topology.with_size(size[0], size[1] * WIDTH_FACTOR)

    def proxy(self, size: Size) -> Architecture:
        """The network of a size as it is measured."""
        return self.topology.with_size(*size)

    def step(self, report: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any] | None:
        """Measure one step's candidates and take the best.

        Args:
            report: called with every candidate within the budget as soon as it is measured, or found too
                slow: plain data, with the step and the candidate's number in it (from 0).

        Returns:
            The series' new member as plain data (arch, proxy, depths, width, params, the two
            measures, candidates, tie_break), or None where growing ended without one. ``stopped``
            then says why; it is also set when the new member reaches ``min_params``.
        """
        if self.stopped:
            return None
        number = len(self.series) + 1
        sizes = next_sizes(self.depths, self.proxy_width)
        affordable = [size for size in sizes if self.budget.fits(self.real(size))]
        if not affordable:
            self._stop(
                f'every larger network exceeds {self.budget}'
                if sizes
                else f'stage 1 would grow wider than {MAX_WIDTH}'
            )
            return None
        candidates = []
        for i, (measurement, recalled) in enumerate(self._measured(affordable)):
            real = self.real(affordable[i])
            candidates.append(
                {
                    'arch': str(real),
                    'proxy': str(self.proxy(affordable[i])),
                    'params': self.budget.params(real),
                    **measured_fields(measurement),
                    'recalled': recalled,
                }
            )
            if report is not None:
                report({'step': number, 'candidate': i, **candidates[-1]})
        ranked = [i for i, candidate in enumerate(candidates) if 'bad' not in candidate] or [
            i
            for i, candidate in enumerate(candidates)
            if candidate['length_distortion'] is not None
        ]
        slow = sum(self._refusal(self.real(size)) is not None for size in affordable)
        if slow == len(affordable):
            assert self.latency is not None
            limits = f'{self.latency.limit:g} ms'
            if len(affordable) < len(sizes):
                limits = f'{self.budget} or {limits}'
            self._stop(f'every larger network exceeds {limits}')
            return None
        if not ranked:
            self.stopped = (
                f'no candidate of step {number} could be measured ({candidates[0]["bad"]})'
            )
            return None
        lengths = [candidates[i]['length_distortion'] for i in ranked]
        kappas = [candidates[i]['ntk_condition_number'] for i in ranked]
        ranking = rank_networks(lengths, fill_with_worst(kappas, larger_is_better=False))
        for i, by_length, by_kappa in zip(
            ranked, ranking.length_ranks, ranking.kappa_ranks, strict=True
        ):
            candidates[i].update(rank_length_distortion=by_length, rank_kappa=by_kappa)
        best = ranked[ranking.best]
        self.depths, self.proxy_width = affordable[best]
        chosen = candidates[best]
        member = {
            'step': number,
            **chosen,
            'depths': list(self.depths),
            'width': self.proxy_width * WIDTH_FACTOR,
            'tie_break': ranking.tie_break,
            'dropped': len(sizes) - len(affordable) + slow,
            'candidates': candidates,
        }
        self.series.append(member)
        if self.min_params is not None and self.reached:
            self.stopped = f'{self.min_params:,} parameters reached'
        return member

    @property
    def reached(self) -> bool:
        """Whether the last network of the series has at least ``min_params`` parameters."""
        return bool(self.series) and self.series[-1]['params'] >= (self.min_params or 0)

    def _measured(self, sizes: list[Size]) -> Iterator[tuple[Measurement, bool]]:
        """What :class:`Memo` yields of the proxies; those of networks that are too slow left out."""
        refusals = [self._refusal(self.real(size)) for size in sizes]
        measured = self.measure(
            [self.proxy(size) for size, why in zip(sizes, refusals, strict=True) if why is None]
        )
        for size, why in zip(sizes, refusals, strict=True):
            found, recalled = next(measured) if why is None else (too_slow(why), False)
            if self.latency is not None:
                found = replace(found, latency_ms=self.latency(self.real(size)))
            yield found, recalled

    def _refusal(self, real: Architecture) -> str | None:
        return None if self.latency is None else self.latency.refusal(real)

    def _stop(self, why: str) -> None:
        aim = '' if self.min_params is None else f' before {self.min_params:,} are reached'
        self.stopped = why + aim

    def _check_budget(self) -> None:
        most = self.budget.max_params
        if self.min_params is not None and most is not None and self.min_params > most:
            raise InputError(
                f'min-params {self.min_params:,} is larger than max-params {most:,}: '
                f'give a minimum of at most {most:,}'
            )
        self.budget.check(self.first, 'candidate')
