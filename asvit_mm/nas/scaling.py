"""Auto-scaling of a seed without training (As-ViT, arXiv 2202.11921, section 3.4)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..arch import MAX_WIDTH, NUM_STAGES, SEED_DEPTHS, Architecture
from ..errors import InputError
from .evaluator import Measure, Measurement, Memo, Request
from .limits import Budget
from .ranking import rank_networks

# Width of stage 1 of the first proxy, at most; width of a network over its proxy's; growth of the proxy in
# a step.
START_WIDTH = 8
# Narrower ones would be rounded back to their width by every growth.
NARROWEST_START = 3
WIDTH_FACTOR = 4
WIDTH_GROWTH = (0.05, 0.10, 0.15, 0.20)


def larger_networks(arch: Architecture) -> list[Architecture]:
    """The candidates after a network: every stage with one more block, times every growth of the width.

    The width of the proxy is what grows, rounded half to even; a small one may thus stay as it is.
    Duplicates are dropped.
    """
    grown = (round(proxy_of(arch).width * (1 + growth)) for growth in WIDTH_GROWTH)
    widths = [w * WIDTH_FACTOR for w in dict.fromkeys(grown) if w * WIDTH_FACTOR <= MAX_WIDTH]
    deeper = [
        tuple(depth + (stage == i) for i, depth in enumerate(arch.depths))
        for stage in range(NUM_STAGES)
    ]
    return [arch.with_size(depths, width) for depths in deeper for width in widths]


def _starts(topology: Architecture) -> list[Architecture]:
    """What scaling may start from: the width of a seed, and then narrower ones for small budgets.

    Their proxies have at least one channel per head.
    """
    narrowest = max(NARROWEST_START, topology.stage_heads[0])
    widths = range(START_WIDTH, narrowest - 1, -1)
    return [topology.with_size(SEED_DEPTHS, width * WIDTH_FACTOR) for width in widths]


def proxy_of(arch: Architecture) -> Architecture:
    """The narrow network that is measured in place of ``arch``: a quarter as wide."""
    return arch.with_size(arch.depths, arch.width // WIDTH_FACTOR)


def measure_proxies(measure: Measure, requests: Sequence[Request]) -> Iterator[Measurement]:
    """Measure the proxies of the networks instead of the networks."""
    return measure([(proxy_of(arch), draw) for arch, draw in requests])


@dataclass(frozen=True)
class Candidate:
    """A network that a step of scaling may choose.

    Attributes:
        params: parameters of its classifier.
        measurement: of its proxy, except for the latency.
        recalled: whether it was measured before.
        ranks: by L^E and by kappa among the candidates of the step, from 0 for the best; None before the
            step is complete, and for a candidate that cannot be chosen.
    """

    arch: Architecture
    params: int
    measurement: Measurement
    recalled: bool
    ranks: tuple[int, int] | None = None

    def to_record(self) -> dict[str, Any]:
        """Plain data for the trace."""
        record = {
            'arch': str(self.arch),
            'proxy': str(proxy_of(self.arch)),
            'params': self.params,
            **self.measurement.to_record(),
            'recalled': self.recalled,
        }
        if self.ranks is not None:
            record['rank_length_distortion'], record['rank_kappa'] = self.ranks
        return record


@dataclass(frozen=True)
class Member:
    """A network of the series.

    Attributes:
        step: from 1.
        chosen: the network.
        tie_break: 'length_distortion' or 'kappa' if the rank sums tied and that measure decided.
        dropped: number of candidates that exceed a limit.
        candidates: what it was chosen from.
    """

    step: int
    chosen: Candidate
    tie_break: str | None
    dropped: int
    candidates: tuple[Candidate, ...]

    def to_record(self, *, candidates: bool = False) -> dict[str, Any]:
        """Plain data for the result, and with the candidates for the trace."""
        record = {
            'step': self.step,
            **self.chosen.to_record(),
            'depths': list(self.chosen.arch.depths),
            'width': self.chosen.arch.width,
            'tie_break': self.tie_break,
            'dropped': self.dropped,
        }
        if candidates:
            record['candidates'] = [candidate.to_record() for candidate in self.candidates]
        return record


class AutoScaling:
    """Grows a seed step by step; every step adds the best of its candidates to the series.

    Args:
        topology: an architecture whose kernels, splits, expansions and heads are kept, not its size.
        budget: candidates that exceed it are dropped.
        min_params: growing stops at the first network with at least this many parameters; None: when no
            candidate is left.

    Attributes:
        current: the network that the next step starts from; the very first is not part of the series. It is
            as wide as a seed, or narrower where the budget has no room for a step from there.
        series: the networks so far.
        stopped: why growing ended; None until then.

    Raises:
        InputError: no network can meet the budget; names the least limit that allows one.
    """

    def __init__(
        self, topology: Architecture, budget: Budget, *, min_params: int | None = None
    ) -> None:
        self.topology = topology
        self.budget = budget
        self.min_params = min_params
        starts = _starts(topology)
        self.current = next(
            (start for start in starts if any(map(budget.fits, larger_networks(start)))), starts[-1]
        )
        self.series: list[Member] = []
        self.stopped: str | None = None
        most = budget.max_params
        if min_params is not None and most is not None and min_params > most:
            raise InputError(
                f'--min-params {min_params:,} is larger than --max-params {most:,}: '
                f'give a minimum of at most {most:,}'
            )
        budget.check(larger_networks(self.current), 'candidate')

    @property
    def reached(self) -> bool:
        """Whether the last network of the series has at least ``min_params`` parameters."""
        return bool(self.series) and self.series[-1].chosen.params >= (self.min_params or 0)

    def affordable(self) -> list[Architecture]:
        """The candidates of the next step that are within the budget."""
        return [arch for arch in larger_networks(self.current) if self.budget.fits(arch)]

    def step(
        self, measure: Memo, report: Callable[[int, Candidate], None] | None = None
    ) -> Member | None:
        """Measure the candidates of one step and take the best.

        Args:
            measure: measures the candidates by their proxies (:func:`measure_proxies`).
            report: called for every candidate within the budget, with its number from 0 and the candidate,
                once it is measured or found to be too slow.

        Returns:
            The new member of the series, or None if growing ended without one. ``stopped`` then says why;
            it is also set if the new member reaches ``min_params``.
        """
        if self.stopped:
            return None
        archs, candidates = self.affordable(), []
        for arch, (measurement, recalled) in zip(archs, measure(archs), strict=True):
            candidates.append(Candidate(arch, self.budget.params(arch), measurement, recalled))
            if report is not None:
                report(len(candidates) - 1, candidates[-1])
        networks = len(larger_networks(self.current))
        slow = sum(candidate.measurement.refused is not None for candidate in candidates)
        dropped = networks - len(archs) + slow
        if dropped == networks:
            self.stopped = self._why_none_is_left(networks, slow)
            return None
        number = len(self.series) + 1
        ranking = rank_networks([candidate.measurement.values for candidate in candidates])
        if ranking is None:
            why = next(c.measurement.problem for c in candidates if not c.measurement.refused)
            self.stopped = f'no candidate of step {number} could be measured ({why})'
            return None
        ranked = tuple(
            replace(candidate, ranks=ranks)
            for candidate, ranks in zip(candidates, ranking.ranks, strict=True)
        )
        member = Member(number, ranked[ranking.best], ranking.tie_break, dropped, ranked)
        self.current = member.chosen.arch
        self.series.append(member)
        if self.min_params is not None and self.reached:
            self.stopped = f'{self.min_params:,} parameters reached'
        return member

    def _why_none_is_left(self, networks: int, slow: int) -> str:
        limits = [str(self.budget)] * (slow < networks) + ['the limit on latency'] * (slow > 0)
        why = f'every larger network exceeds {" or ".join(limits)}'
        if not networks:
            why = f'stage 1 would grow wider than {MAX_WIDTH}'
        return why if self.min_params is None else f'{why} before {self.min_params:,} are reached'
