"""Search of a seed and its scaling, both without training."""

from .measuring import Measure, Measurement, complexity_measure, measured_fields
from .reinforce import ReinforceSearch
from .rewards import dense_ranks, metric_change, rank_networks, relative_range, reward
from .scaling import AutoScaling, next_sizes

__all__ = [
    'AutoScaling',
    'Measure',
    'Measurement',
    'ReinforceSearch',
    'complexity_measure',
    'dense_ranks',
    'measured_fields',
    'metric_change',
    'next_sizes',
    'rank_networks',
    'relative_range',
    'reward',
]
