"""What a measure returns: a value, or the reason why there is none."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """One measured value. ``value`` means nothing (NaN) where ``valid`` is false."""

    value: float
    valid: bool = True
    reason: str = ''

    @classmethod
    def bad(cls, reason: str) -> 'Score':
        """A failed measurement and why it failed."""
        return cls(math.nan, valid=False, reason=reason)

    @classmethod
    def mean(cls, scores: Sequence['Score']) -> 'Score':
        """The mean of the scores; bad as soon as one of them is."""
        for i, score in enumerate(scores):
            if not score.valid:
                return cls.bad(f'network {i + 1} of {len(scores)}: {score.reason}')
        return cls(math.fsum(score.value for score in scores) / len(scores))
