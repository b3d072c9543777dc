"""A race of finalists by successive halving (by thirds): who takes part, how long rounds train, who goes on.

Source: Jamieson and Talwalkar, Non-stochastic best arm identification and hyperparameter optimization, arXiv
1502.07943. There a network goes on where it stopped; here every round trains anew, for longer, with the whole
schedule of the recipe: accuracies in the middle of a schedule rank networks worse than those at its end.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass
from itertools import zip_longest
from typing import Any

from ..arch import Architecture

# A finalist differs from each of the others in at least this many numbers, if there are enough such.
MIN_DISTANCE = 3
# Epochs of a training, at least; where they do not fit, it sees fewer of the images.
MIN_EPOCHS = 2
# Validations of a training, for its curve: at most these, in at most this part of the time.
VALIDATIONS = 5
VALIDATING = 0.2
# The part of the time that is planned: trainings take a little longer than estimated.
PLANNED = 0.9


@dataclass(frozen=True)
class Cost:
    """What a training of one network costs in seconds: to build, for each image that it sees, to validate."""

    fixed: float
    per_image: float
    validation: float


@dataclass(frozen=True)
class Round:
    """A round of a race: ``networks`` are trained for ``epochs`` on ``images``, validated so many times."""

    networks: int
    epochs: int
    images: int
    validations: int = 1

    def to_record(self) -> dict[str, Any]:
        """Plain data for trace and result."""
        return asdict(self)


def choose_finalists(
    first: Sequence[Architecture], ranked: Iterable[Architecture], count: int
) -> list[Architecture]:
    """At most ``count`` different networks: ``first``, then the best of ``ranked`` that are not alike.

    Args:
        first: take part in any case, up to ``count``.
        ranked: further networks, the best first.
    """
    ranked = list(dict.fromkeys(ranked))
    chosen = list(dict.fromkeys(first))[:count]
    for distance in range(MIN_DISTANCE, 0, -1):
        for arch in ranked:
            if len(chosen) == count:
                break
            if all(_distance(arch, other) >= distance for other in chosen):
                chosen.append(arch)
    return chosen


def _distance(first: Architecture, second: Architecture) -> int:
    """In how many numbers two architectures differ."""
    # The published stride, which is left out, differs from every other.
    return sum(a != b for a, b in zip_longest(first.numbers, second.numbers))


def round_sizes(count: int) -> list[int]:
    """Networks of each round: all, then the best third, rounded up, down to the two that decide."""
    sizes = [count]
    while sizes[-1] > 2:
        sizes.append(max(2, -(-sizes[-1] // 3)))
    return sizes


def plan_race(
    costs: Sequence[Cost], seconds: float, processes: int, images: int, batch_size: int
) -> list[Round]:
    """The rounds of a race that takes ``seconds``, each an equal part of them.

    Args:
        costs: of a training of each finalist. As nobody knows who goes on, a round is planned for the most
            expensive ones.
        processes: trainings at the same time.
        images: that there are to train on.
        batch_size: a training sees at least one batch, however little time there is.
    """
    ordered = sorted(costs, key=lambda cost: -cost.per_image)
    sizes = round_sizes(len(costs))
    plan = []
    for size in sizes:
        slowest = ordered[:size]
        one_after_another = -(-size // processes)
        available = PLANNED * seconds / len(sizes) / one_after_another
        fixed, per_image, validation = (
            sum(values) / size for values in zip(*map(astuple, slowest), strict=True)
        )
        validations = VALIDATIONS
        if validations * validation > VALIDATING * available:
            validations = max(1, int(VALIDATING * available / validation))
        visits = max(0.0, available - fixed - validations * validation) / per_image
        seen = min(images, max(batch_size, int(visits / MIN_EPOCHS)))
        epochs = max(1, int(visits / seen))
        plan.append(Round(size, epochs, seen, min(validations, epochs)))
    return plan


def rank_by_accuracy(accuracies: Sequence[float | None], costs: Sequence[float]) -> list[int]:
    """Indices of the networks, the most accurate first; of equal ones the cheaper.

    Args:
        accuracies: of the round; None for a network that could not be trained, which comes last.
        costs: such as multiply-adds.
    """

    def key(i: int) -> tuple[float, float]:
        accuracy = accuracies[i]
        return (float('inf') if accuracy is None else -accuracy, costs[i])

    return sorted(range(len(accuracies)), key=key)


def going_on(ranked: Sequence[Architecture], count: int) -> list[Architecture]:
    """The ``count`` networks of ``ranked`` that take part in the next round, in the same order.

    As long as there is room each base stride keeps its share, and at least one, so that no short round
    decides between strides: in docs/studies/outcome finer tokens were behind after 2 epochs, not after 8.
    """
    if count <= 1:
        return list(ranked[:count])
    strides = Counter(arch.stride for arch in ranked)
    room = {s: max(1, count * number // len(ranked)) for s, number in strides.items()}
    kept: list[Architecture] = []
    for arch in ranked:
        if room[arch.stride]:
            room[arch.stride] -= 1
            kept.append(arch)
    chosen = set([*kept, *(arch for arch in ranked if arch not in kept)][:count])
    return [arch for arch in ranked if arch in chosen]
