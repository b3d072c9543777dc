"""What a search method is, and the loop that all of them run in."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

from ..arch import Architecture
from .baselines import RandomSearch, RegularizedEvolution
from .evaluator import Memo, measured_fields
from .latency import Latency
from .reinforce import Reinforce


class SearchMethod(Protocol):
    """Proposes seeds to measure and learns from what is measured.

    Everything that it does follows from its seed and from what it was told, so that a run goes on
    exactly by telling a new object the same.
    """

    def ask(self) -> Sequence[Architecture]:
        """The next seeds to measure, at least one; none of them waits for what another one gives."""

    def tell(self, arch: Architecture, measured: Mapping[str, Any]) -> dict[str, Any]:
        """Take in what was measured of a seed that was asked for, in the order of asking.

        Args:
            measured: fields of :func:`~asvit_mm.nas.measured_fields`.

        Returns:
            plain data of this method for the trace.
        """

    @property
    def best(self) -> Architecture:
        """The search's result, if it ended now and its latency were kept."""

    def best_of(self, archs: Collection[Architecture]) -> Architecture:
        """The one that the method prefers of some (at least one) that it was told of."""


def result_of(
    method: SearchMethod, measured: Collection[Architecture], latency: Latency | None = None
) -> Architecture:
    """The result of a search: the method's best, which may be one that was never measured.

    Args:
        measured: what the method was told of, each once, in the order of telling.
        latency: the limit; where the method's best is too slow, the result is what it prefers of those
            measured that keep it.

    Raises:
        InputError: none keeps it; names the fastest.
    """
    best = method.best
    if latency is None:
        return best
    kept = latency.keeping(measured, f'all {len(measured)} networks of this search')
    return best if latency(best) <= latency.limit else method.best_of(kept)


METHODS = {
    'reinforce': Reinforce,
    'evolution': RegularizedEvolution,
    'random': RandomSearch,
}


def search_seeds(method: SearchMethod, measure: Memo, steps: int) -> Iterator[dict[str, Any]]:
    """Measure ``steps`` architectures that the method asks for.

    Yields:
        Plain data of a step: step, arch, length_distortion and ntk_condition_number (None and ``bad``
        with the reason where the network could not be measured, or is too slow), latency_ms where it is
        limited, recalled (whether it was measured in an earlier step), what the method adds, and best, the
        result if the search ended there (with a limit on the latency: if best keeps it).
    """
    step = 0
    while step < steps:
        archs = list(method.ask())[: steps - step]
        for arch, (measurement, recalled) in zip(archs, measure(archs), strict=True):
            fields = measured_fields(measurement)
            told = method.tell(arch, fields)
            yield {
                'step': step,
                'arch': str(arch),
                **fields,
                'recalled': recalled,
                **told,
                'best': str(method.best),
            }
            step += 1
