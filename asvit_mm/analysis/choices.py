"""Which choices of the search space decide what is measured."""

import math
from collections.abc import Sequence

import numpy as np

from ..arch import SEARCH_SPACE, Architecture


def shares_of_choices(
    seeds: Sequence[Architecture], values: Sequence[float | None]
) -> dict[str, float | None]:
    """Share of the variance of a measure's logarithm that goes along with each choice (eta squared).

    That is the variance of the means of the seeds with equal values of the choice, over the whole. By
    chance alone a choice of m values has a share of (m - 1) / (n - 1) among n seeds. Where choices are
    drawn independently, the shares but for chance sum to 1 less what choices do together and what is noise.

    Args:
        values: of each seed, positive; None: left out.

    Returns:
        of every choice, from 0 to 1; None where no two values differ.
    """
    there = [(seed, math.log(v)) for seed, v in zip(seeds, values, strict=True) if v is not None]
    logs = np.array([log for _, log in there])
    indices = np.array([SEARCH_SPACE.encode(seed) for seed, _ in there])
    if np.unique(logs).size < 2:
        return dict.fromkeys(SEARCH_SPACE.choices)
    return {
        name: float(_means_of_groups(indices[:, k], logs).var() / logs.var())
        for k, name in enumerate(SEARCH_SPACE.choices)
    }


def _means_of_groups(group: np.ndarray, values: np.ndarray) -> np.ndarray:
    """In place of each value the mean of its group."""
    _, inverse = np.unique(group, return_inverse=True)
    return (np.bincount(inverse, values) / np.bincount(inverse))[inverse]
