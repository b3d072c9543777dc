"""Seed search by REINFORCE (As-ViT, arXiv 2202.11921, section 3.3)."""

from typing import Any

import numpy as np
import torch

from ..arch import SEARCH_SPACE, Architecture, SearchSpace
from .measuring import Measure, measured_fields
from .rewards import MovingAverage, Value, reward

LEARNING_RATE = 0.08
LOGIT_STD = 1e-3


class ReinforceSearch:
    """Independent categoricals, one a choice, moved towards networks of higher reward.

    Every draw comes from (seed, step) alone, so a run that was stopped goes on exactly as it would
    have once a new object has gone through its steps with a ``measure`` that recalls their scores.

    Args:
        measure: called with an architecture and the step.
        seed: decides the initial logits and every sample.
        space: what is searched.
        learning_rate: of Adam.
        momentum: of the rewards' moving average, the baseline.
    """

    def __init__(
        self,
        measure: Measure,
        *,
        seed: int = 0,
        space: SearchSpace = SEARCH_SPACE,
        learning_rate: float = LEARNING_RATE,
        momentum: float = 0.9,
    ) -> None:
        self.measure = measure
        self.seed = seed
        self.space = space
        self.sizes = [len(values) for values in space.choices.values()]
        start = np.random.default_rng([seed, 0]).standard_normal(sum(self.sizes))
        self.logits = torch.nn.Parameter(torch.from_numpy(LOGIT_STD * start))
        self.optimizer = torch.optim.Adam([self.logits], lr=learning_rate)
        self.baseline = MovingAverage(momentum)
        self.length_distortions: list[Value] = []
        self.kappas: list[Value] = []

    @property
    def steps_done(self) -> int:
        """Networks measured so far."""
        return len(self.kappas)

    @property
    def most_likely(self) -> Architecture:
        """The most likely value of every choice: the search's result."""
        logits = self.logits.detach().split(self.sizes)
        return self.space.decode([int(part.argmax()) for part in logits])

    @property
    def entropy(self) -> float:
        """Entropy of the policy in nats, summed over the choices."""
        with torch.no_grad():
            return sum(float(c.entropy()) for c in self._policy())

    def step(self) -> dict[str, Any]:
        """Sample and measure one architecture, update the policy.

        Returns:
            Plain data: step, arch, indices, length_distortion and ntk_condition_number (None and
            ``bad`` with the reason where a network could not be measured), reward, baseline,
            entropy of the policy sampled from, most_likely after the update.
        """
        step = self.steps_done
        policy = self._policy()
        entropy = self.entropy
        # One uniform a choice, through the inverse of its cumulative distribution; stream 0 of the
        # seed gave the initial logits, hence step + 1.
        uniforms = np.random.default_rng([self.seed, step + 1]).random(len(self.sizes))
        indices = [
            min(int((c.probs.detach().cumsum(0) <= u).sum()), len(c.probs) - 1)
            for c, u in zip(policy, uniforms, strict=True)
        ]
        arch = self.space.decode(indices)
        fields = measured_fields(self.measure(arch, step))
        self.length_distortions.append(fields['length_distortion'])
        self.kappas.append(fields['ntk_condition_number'])
        value = reward(self.length_distortions, self.kappas)
        average = self.baseline.update(value)

        log_prob = torch.stack(
            [c.log_prob(torch.tensor(i)) for c, i in zip(policy, indices, strict=True)]
        ).sum()
        self.optimizer.zero_grad()
        (-log_prob * (value - average)).backward()
        self.optimizer.step()
        return {
            'step': step,
            'arch': str(arch),
            'indices': indices,
            **fields,
            'reward': value,
            'baseline': average,
            'entropy': entropy,
            'most_likely': str(self.most_likely),
        }

    def _policy(self) -> list[torch.distributions.Categorical]:
        return [
            torch.distributions.Categorical(logits=part) for part in self.logits.split(self.sizes)
        ]
