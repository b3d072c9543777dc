"""Networks that use up a budget: a topology with random depths, as wide as the limits allow.

They are what a race of :mod:`~asvit_mm.runs.scale` chooses among, since the candidates of one scaling are
much alike.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from ..arch import MAX_WIDTH, NUM_STAGES, Architecture
from .limits import Budget

# A network uses at least this share of the tighter limit.
LEAST_USAGE = 0.8
WIDTH_STEP = 4
# Up to this size, in pixels, images may want finer tokens than the published ones.
SMALL_IMAGE = 64
FINER_STRIDE = 2
# Draws for each network that is wanted, before giving up.
TRIES = 50


def widest(topology: Architecture, depths: Sequence[int], budget: Budget) -> Architecture | None:
    """The widest network of a topology and depths within the budget; None if it uses less than most of it.

    Its proxy, a quarter as wide (:func:`~.scaling.proxy_of`), has at least one channel per head.
    """
    least = -(-topology.heads // 2 // WIDTH_STEP) * WIDTH_STEP
    widths = range(least, MAX_WIDTH + 1, WIDTH_STEP)
    too_wide = bisect_left(
        widths, True, key=lambda width: not budget.fits(topology.with_size(depths, width))
    )
    if not too_wide:
        return None
    found = topology.with_size(depths, widths[too_wide - 1])
    return found if budget.usage(found) >= LEAST_USAGE else None


def with_finer_tokens(topologies: Sequence[Architecture], img_size: int) -> list[Architecture]:
    """The topologies, and for small images each with finer tokens too."""
    if img_size > SMALL_IMAGE:
        return list(topologies)
    finer = [replace(one, stride=min(one.stride, FINER_STRIDE)) for one in topologies]
    pairs = zip(topologies, finer, strict=True)
    return list(dict.fromkeys(arch for pair in pairs for arch in pair))


def draw_filling(
    topologies: Sequence[Architecture],
    deepest: int,
    budget: Budget,
    count: int,
    rng: np.random.Generator,
) -> Iterator[Architecture]:
    """At most ``count`` different networks that use most of a budget.

    Topologies take turns; the depth of each stage is drawn from 1 to ``deepest``.
    """
    found: set[Architecture] = set()
    for number in range(TRIES * count):
        depths = [int(depth) for depth in rng.integers(1, deepest + 1, NUM_STAGES)]
        arch = widest(topologies[number % len(topologies)], depths, budget)
        if arch is not None and arch not in found:
            found.add(arch)
            yield arch
        if len(found) == count:
            return
