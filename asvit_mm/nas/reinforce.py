"""Seed search by REINFORCE (As-ViT, arXiv 2202.11921, section 3.3)."""

from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from ..arch import Architecture
from .evaluator import Measurement
from .rewards import MovingAverage, Value, reward
from .space import Choices

LEARNING_RATE = 0.08
LOGIT_STD = 1e-3


class Reinforce:
    """One independent categorical per choice, moved towards networks of higher reward.

    With limits, values of a choice that break them are masked and the probabilities of the others are
    renormalized, in the order of the choices; the update uses these probabilities. Without limits this is
    the paper's method.

    Args:
        choices: what is searched.
        seed: determines the initial logits and, with the step, every sample.
        learning_rate: of Adam.
        momentum: of the rewards' moving average, the baseline.
    """

    def __init__(
        self,
        choices: Choices | None = None,
        *,
        seed: int = 0,
        learning_rate: float = LEARNING_RATE,
        momentum: float = 0.9,
    ) -> None:
        self.choices = choices or Choices()
        self.seed = seed
        start = np.random.default_rng([seed, 0]).standard_normal(sum(self.choices.sizes))
        self.logits = torch.nn.Parameter(torch.from_numpy(LOGIT_STD * start))
        self.optimizer = torch.optim.Adam([self.logits], lr=learning_rate)
        self.baseline = MovingAverage(momentum)
        self.length_distortions: list[Value] = []
        self.kappas: list[Value] = []

    @property
    def best(self) -> Architecture:
        """The most likely value of every choice: the search's result."""
        indices: list[int] = []
        for logits in self.logits.detach().split(self.choices.sizes):
            indices.append(int(self._log_probs(logits, indices).argmax()))
        return self.choices.space.decode(indices)

    def best_of(self, archs: Collection[Architecture]) -> Architecture:
        """The most likely of some seeds."""
        with torch.no_grad():
            return max(archs, key=lambda arch: float(self.log_prob(arch)))

    @property
    def probabilities(self) -> list[list[float]]:
        """The policy: for every choice, the probability of each value, without the limits."""
        with torch.no_grad():
            return [logits.softmax(0).tolist() for logits in self.logits.split(self.choices.sizes)]

    @property
    def entropy(self) -> float:
        """Entropy of the policy in nats, summed over the choices, without the limits."""
        with torch.no_grad():
            return sum(
                float(torch.distributions.Categorical(logits=logits).entropy())
                for logits in self.logits.split(self.choices.sizes)
            )

    def ask(self) -> list[Architecture]:
        """One sample of the policy."""
        # One uniform number per choice, through the inverse of its cumulative distribution; stream 0 of
        # the seed gave the initial logits, hence step + 1.
        rng = np.random.default_rng([self.seed, len(self.kappas) + 1])
        indices: list[int] = []
        for u, logits in zip(
            rng.random(len(self.choices.sizes)),
            self.logits.detach().split(self.choices.sizes),
            strict=True,
        ):
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

    def _log_probs(self, logits: Tensor, before: Sequence[int]) -> Tensor:
        """Log-probabilities of the next choice after the indices ``before``; -inf if not allowed."""
        allowed = torch.tensor(self.choices.allowed(before))
        return logits.masked_fill(~allowed, -torch.inf).log_softmax(0)
