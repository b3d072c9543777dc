"""What averaging over more networks buys: how alike disjoint groups of networks rank architectures."""

import itertools
import math
import warnings
from typing import Any

import numpy as np
from scipy import stats

Values = np.ndarray
# More splits than these are not tried all; as many are drawn.
MAX_SPLITS = 200

Split = tuple[tuple[int, ...], tuple[int, ...]]


def splits(networks: int, size: int, other: int, seed: int = 0) -> list[Split]:
    """Disjoint groups of ``size`` and ``other`` networks, each pair of groups once.

    All that there are, or where these are more than ``MAX_SPLITS``, as many drawn by ``seed``.
    """
    number = math.comb(networks, size) * math.comb(networks - size, other)
    if number // (2 if size == other else 1) > MAX_SPLITS:
        rng = np.random.default_rng([seed, size, other])
        orders = [rng.permutation(networks).tolist() for _ in range(MAX_SPLITS)]
        return [
            (tuple(sorted(order[:size])), tuple(sorted(order[size : size + other])))
            for order in orders
        ]
    return [
        (first, second)
        for first in itertools.combinations(range(networks), size)
        for second in itertools.combinations([i for i in range(networks) if i not in first], other)
        if size != other or first < second
    ]


def rank_agreement(values: Values, groups: list[Split]) -> dict[str, Any]:
    """Kendall's tau-b and Spearman's rho between the means over two groups of networks.

    Args:
        values: (architectures, networks), all finite.
        groups: at least one.

    Returns:
        ``tau`` and ``rho``, their means over the groups, ``tau_std`` and ``rho_std`` (n in the
        denominator) and ``splits``, how many groups; None where a group ranks nothing.
    """
    found = np.empty((len(groups), 2))
    for i, (first, second) in enumerate(groups):
        x, y = (values[:, list(group)].mean(1) for group in (first, second))
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', stats.ConstantInputWarning)
            found[i] = stats.kendalltau(x, y).statistic, stats.spearmanr(x, y).statistic
    mean, std = (_plain(part) for part in (found.mean(0), found.std(0)))
    return {
        'tau': mean[0],
        'tau_std': std[0],
        'rho': mean[1],
        'rho_std': std[1],
        'splits': len(groups),
    }


def variances(values: Values) -> tuple[float, float]:
    """Variance between architectures and between the networks of one; unbiased, the first at least 0.

    Two-way analysis of variance without replication: what a network's batch and curve add to all
    architectures alike changes no rank and counts as neither (Shrout and Fleiss, Intraclass Correlations,
    1979, model 3).

    Args:
        values: (architectures, networks), at least two of each.
    """
    n, networks = values.shape
    rows, columns = values.mean(1, keepdims=True), values.mean(0, keepdims=True)
    rest = values - rows - columns + values.mean()
    within = float((rest**2).sum() / ((n - 1) * (networks - 1)))
    between = float(rows.var(ddof=1)) - within / networks
    return max(between, 0.0), within


def repeat_table(values: Values, seed: int = 0) -> dict[str, Any]:
    """What each number of networks buys.

    Args:
        values: (architectures, networks) of one measure; NaN where there is none. Architectures that lack
            one are left out, and for the variances, which are of the logarithms, those with a value
            that has none.
        seed: decides the splits where there are too many.

    Returns:
        Plain data, None for what is not defined: ``architectures`` and ``left_out``, their numbers;
        ``between_std`` and ``within_std`` of the logarithm and ``variance_ratio``; ``rows``: for each
        number of networks up to all, :func:`rank_agreement` of their mean with that of all the
        others (``rest``) and of as many others (``as_many``), and the ``reliability``.
    """
    whole = values[np.isfinite(values).all(1)]
    networks = values.shape[1]
    positive = whole[(whole > 0).all(1)]
    between = within = ratio = None
    if networks > 1 and len(positive) > 1:
        between, within = variances(np.log(positive))
        ratio = between / within if within > 0 else None
    rows = []
    for r in range(1, networks + 1):
        others = {'rest': networks - r, 'as_many': r}
        agreement = {
            name: rank_agreement(whole, splits(networks, r, other, seed))
            if 0 < other <= networks - r and len(whole) > 1
            else None
            for name, other in others.items()
        }
        reliability = None if ratio is None else r * ratio / (r * ratio + 1)
        rows.append({'networks': r, **agreement, 'reliability': reliability})
    return {
        'architectures': len(whole),
        'left_out': len(values) - len(whole),
        'between_std': None if between is None else math.sqrt(between),
        'within_std': None if within is None else math.sqrt(within),
        'variance_ratio': ratio,
        'rows': rows if networks > 1 else [],
    }


def _plain(values: np.ndarray) -> list[float | None]:
    return [float(value) if math.isfinite(value) else None for value in values]
