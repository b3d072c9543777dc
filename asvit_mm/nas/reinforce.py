"""Seed search by REINFORCE (As-ViT, arXiv 2202.11921, section 3.3)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..arch import Architecture
from .evaluator import Measurement
from .ranking import Value
from .space import Choices

LEARNING_RATE = 0.08
LOGIT_STD = 1e-3
RANGE_WINDOW = 20
RANGE_EPSILON = 1e-6


def fill_with_worst(values: Sequence[Value], larger_is_better: bool) -> list[float]:
    """``values`` with every None replaced by the worst of the others (0 if there is no other).

    So an invalid network counts as the worst seen so far. As in the published code, a worse value that
    comes later also changes what invalid networks before it count as.
    """
    seen = [value for value in values if value is not None]
    worst = (min(seen) if larger_is_better else max(seen)) if seen else 0.0
    return [worst if value is None else value for value in values]


def metric_change(values: Sequence[float]) -> float:
    """Last step's change over the range of the last 20 values, the newest included.

    0 for a first value: (m_t - m_{t-1}) / (max - min + 1e-6), which lies within [-1, 1].
    """
    if len(values) < 2:
        return 0.0
    recent = values[-RANGE_WINDOW:]
    return (values[-1] - values[-2]) / (max(recent) - min(recent) + RANGE_EPSILON)


def reward(length_distortions: Sequence[Value], kappas: Sequence[Value]) -> float:
    """The reward of the newest network: change of L^E minus change of kappa.

    Args:
        length_distortions, kappas: all values of the run so far, the newest network's last.
    """
    lengths = fill_with_worst(length_distortions, larger_is_better=True)
    return metric_change(lengths) - metric_change(fill_with_worst(kappas, larger_is_better=False))


@dataclass
class MovingAverage:
    """Exponential moving average, corrected for its start at zero: the baseline of the rewards."""

    momentum: float = 0.9
    weighted_sum: float = 0.0
    weight: float = 0.0

    def update(self, value: float) -> float:
        """Take in ``value`` and return the average, ``value`` included."""
        self.weighted_sum = self.momentum * self.weighted_sum + (1 - self.momentum) * value
        self.weight = self.momentum * self.weight + (1 - self.momentum)
        return self.weighted_sum / self.weight


class Reinforce:
    """One independent categorical per choice, moved towards networks of higher reward.

    With limits, values of a choice that break them are masked and the probabilities of the others are
    renormalized, in the order of the choices; the update uses these probabilities. Without limits this is
    the paper's method.

    Args:
        choices: what is searched.
        seed: determines the initial logits and, with the step, every sample.
    """

    def __init__(self, choices: Choices | None = None, *, seed: int = 0) -> None:
        self.choices = choices or Choices()
        self.seed = seed
        start = np.random.default_rng([seed, 0]).standard_normal(sum(self.choices.sizes))
        self.logits = torch.nn.Parameter(torch.from_numpy(LOGIT_STD * start))
        self.optimizer = torch.optim.Adam([self.logits], lr=LEARNING_RATE)
        self.baseline = MovingAverage()
        self.length_distortions: list[Value] = []
        self.kappas: list[Value] = []

    @property
    def best(self) -> Architecture:
        """The most likely value of every choice: the search's result."""
        indices: list[int] = []
        for logits in self._split():
            indices.append(int(self._log_probs(logits, indices).argmax()))
        return self.choices.space.decode(indices)

    def best_of(self, archs: Collection[Architecture]) -> Architecture:
        """The most likely of some seeds."""
        with torch.no_grad():
            return max(archs, key=lambda arch: float(self.log_prob(arch)))

    @property
    def probabilities(self) -> list[list[float]]:
        """The policy: for every choice, the probability of each value, without the limits."""
        return [logits.softmax(0).tolist() for logits in self._split()]

    @property
    def entropy(self) -> float:
        """Entropy of the policy in nats, summed over the choices, without the limits."""
        return sum(
            float(torch.distributions.Categorical(logits=logits).entropy())
            for logits in self._split()
        )

    def ask(self) -> list[Architecture]:
        """One sample of the policy."""
        # One uniform number per choice, through the inverse of its cumulative distribution; stream 0 of
        # the seed gave the initial logits, hence step + 1.
        rng = np.random.default_rng([self.seed, len(self.kappas) + 1])
        indices: list[int] = []
        for u, logits in zip(rng.random(len(self.choices.sizes)), self._split(), strict=True):
            probs = self._log_probs(logits, indices).exp()
            below = int((probs.cumsum(0) <= u).sum())
            indices.append(min(below, int(probs.nonzero().max())))
        return [self.choices.space.decode(indices)]

    def tell(self, arch: Architecture, measurement: Measurement) -> dict[str, float]:
        """Update the policy.

        Returns:
            reward, baseline, and the entropy of the policy that was sampled from.
        """
        entropy = self.entropy
        length, kappa = measurement.values
        self.length_distortions.append(length)
        self.kappas.append(kappa)
        value = reward(self.length_distortions, self.kappas)
        average = self.baseline.update(value)
        self.optimizer.zero_grad()
        (-self.log_prob(arch) * (value - average)).backward()
        self.optimizer.step()
        return {'reward': value, 'baseline': average, 'entropy': entropy}

    def log_prob(self, arch: Architecture) -> Tensor:
        """Log-probability of a seed under the policy, with the limits; a scalar."""
        indices = self.choices.space.encode(arch)
        return torch.stack(
            [
                self._log_probs(logits, indices[:k])[indices[k]]
                for k, logits in enumerate(self.logits.split(self.choices.sizes))
            ]
        ).sum()

    def _split(self) -> tuple[Tensor, ...]:
        """The logits of each choice, without gradients."""
        return self.logits.detach().split(self.choices.sizes)

    def _log_probs(self, logits: Tensor, before: Sequence[int]) -> Tensor:
        """Log-probabilities of the next choice after the indices ``before``; -inf if not allowed."""
        allowed = torch.tensor(self.choices.allowed(before))
        return logits.masked_fill(~allowed, -torch.inf).log_softmax(0)
