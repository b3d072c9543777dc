"""The choices of a search, narrowed to those that fit the images, and to networks within limits."""

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from ..arch import BASE_STRIDE, SEARCH_SPACE, SPLIT_CHOICES, Architecture, SearchSpace
from ..tokens import stage_sizes, window_length


def space_for(img_size: int, stride: int = BASE_STRIDE) -> SearchSpace:
    """The search space for images of ``img_size`` pixels per side and a stride of the patch embedding.

    It is the published one (``SEARCH_SPACE``) without the splits that leave windows of a single token, in
    which attention does nothing. At 224 pixels and stride 4 there are none of these.
    """
    choices = dict(SEARCH_SPACE.choices)
    stages = zip(stage_sizes(img_size, stride), SPLIT_CHOICES, strict=True)
    for number, (side, splits) in enumerate(stages, start=1):
        if len(splits) > 1:
            useful = tuple(split for split in splits if window_length(side, split) > 1)
            choices[f'S{number}'] = useful or splits[:1]
    return SearchSpace(choices, stride)


class Choices:
    """A search space from which only networks within limits are drawn, choice by choice.

    A value is allowed if it makes a network that fits together with the values chosen before it and the
    cheapest values of all later choices. So every draw ends with a network that fits, and each of these
    can be drawn.

    Args:
        space: what is searched.
        fits: whether a network is within the limits; None: there are none. If it holds for a network, it
            must hold for every network that costs less in some choices and more in none.
        cost: determines the cheapest values; needed with ``fits`` only. Which value of a choice is cheapest
            must not depend on the choices before it while those after it are at their cheapest.
    """

    def __init__(
        self,
        space: SearchSpace = SEARCH_SPACE,
        fits: Callable[[Architecture], bool] | None = None,
        cost: Callable[[Architecture], float] | None = None,
    ) -> None:
        self.space = space
        self.sizes = [len(values) for values in space.choices.values()]
        self.fits = fits
        self.cost = cost
        self._allowed: dict[tuple[int, ...], list[bool]] = {}

    @cached_property
    def cheapest(self) -> list[int]:
        """Index of the cheapest value of every choice; together they are the cheapest network of all."""
        assert self.cost is not None
        found, before = [0] * len(self.sizes), None
        # Takes several rounds: the cheapest split depends on the expansion, which comes after it.
        while found != before:
            before = list(found)
            for k in range(len(found)):
                costs = [self.cost(child) for child in self.variants(found, k)]
                if costs[found[k]] > min(costs):
                    found[k] = int(np.argmin(costs))
        return found

    def variants(self, indices: Sequence[int], k: int) -> list[Architecture]:
        """The networks with each value of choice ``k``, and otherwise the values at ``indices``."""
        before, after = indices[:k], indices[k + 1 :]
        return [self.space.decode([*before, i, *after]) for i in range(self.sizes[k])]

    def allowed(self, before: Sequence[int]) -> list[bool]:
        """Which values of the next choice are allowed after the indices ``before``."""
        k, key = len(before), tuple(before)
        if self.fits is None:
            return [True] * self.sizes[k]
        if key not in self._allowed:
            cheapest = [*key, *self.cheapest[k:]]
            self._allowed[key] = [self.fits(arch) for arch in self.variants(cheapest, k)]
        return self._allowed[key]

    def draw(self, rng: np.random.Generator) -> Architecture:
        """A seed, each choice drawn uniformly among the values that are allowed."""
        indices: list[int] = []
        for u in rng.random(len(self.sizes)):
            allowed = np.flatnonzero(self.allowed(indices))
            indices.append(int(allowed[int(u * len(allowed))]))
        return self.space.decode(indices)
