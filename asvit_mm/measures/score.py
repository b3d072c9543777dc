"""The result of a measure: a value, or the reason why there is none."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Score:
    """One measured value. Scores compare equal whatever their ``std`` and ``seconds``.

    Attributes:
        value: in the unit of the measure; NaN if not ``valid``.
        valid: whether there is a value.
        reason: why there is none.
        std: of a :meth:`mean`, the sample standard deviation over the networks; NaN for one network.
        seconds: time per network. The time is that of the measure alone: networks, curves and images on
            the device, which measures share, are created before.
    """

    value: float
    valid: bool = True
    reason: str = ''
    # NaN is not equal to itself, so these would make no two scores equal.
    std: float = field(default=math.nan, compare=False)
    seconds: float = field(default=math.nan, compare=False)

    @classmethod
    def bad(cls, reason: str) -> 'Score':
        """A failed measurement and why it failed."""
        return cls(math.nan, valid=False, reason=reason)

    @classmethod
    def finite(cls, value: float, otherwise: str) -> 'Score':
        """A value, or if it is not finite a failed measurement because of ``otherwise``."""
        return cls(value) if math.isfinite(value) else cls.bad(otherwise)

    @classmethod
    def mean(cls, scores: Sequence['Score']) -> 'Score':
        """Mean and standard deviation of the scores; bad if any of them is."""
        seconds = math.fsum(score.seconds for score in scores) / len(scores)
        for i, score in enumerate(scores):
            if not score.valid:
                reason = f'network {i + 1} of {len(scores)}: {score.reason}'
                return cls(math.nan, valid=False, reason=reason, seconds=seconds)
        values = [score.value for score in scores]
        std = statistics.stdev(values) if len(values) > 1 else math.nan
        return cls(math.fsum(values) / len(values), std=std, seconds=seconds)
