"""What a measure returns: a value, or the reason why there is none."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Score:
    """One measured value.

    Attributes:
        value: in the measure's unit; means nothing (NaN) where ``valid`` is false.
        valid: whether there is a value.
        reason: why there is none.
        std: standard deviation over networks (n - 1 in the denominator) of a :meth:`mean`; NaN for one
            network. Two scores with the same value are equal whatever it is.
    """

    value: float
    valid: bool = True
    reason: str = ''
    # NaN differs from itself, so a comparison of it would make no two scores equal.
    std: float = field(default=math.nan, compare=False)

    @classmethod
    def bad(cls, reason: str) -> 'Score':
        """A failed measurement and why it failed."""
        return cls(math.nan, valid=False, reason=reason)

    @classmethod
    def mean(cls, scores: Sequence['Score']) -> 'Score':
        """The mean of the scores and their deviation; bad as soon as one of them is."""
        for i, score in enumerate(scores):
            if not score.valid:
                return cls.bad(f'network {i + 1} of {len(scores)}: {score.reason}')
        values = [score.value for score in scores]
        std = statistics.stdev(values) if len(values) > 1 else math.nan
        return cls(math.fsum(values) / len(values), std=std)
