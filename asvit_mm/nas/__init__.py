"""Search of a seed and its scaling, both without training."""

from .baselines import RandomSearch, RegularizedEvolution
from .budget import Budget
from .evaluator import ComplexityMeasure, Measure, Measurement, Memo, Request, measured_fields
from .latency import (
    Clock,
    Latency,
    WithinLatency,
    is_refused,
    known_latencies,
    recorded_latency,
    too_slow,
)
from .methods import METHODS, SearchMethod, result_of, search_seeds
from .parallel import SharedMeasure, help_measuring, with_helpers
from .reinforce import Reinforce
from .rewards import dense_ranks, metric_change, rank_networks, relative_range, reward
from .scaling import AutoScaling, next_sizes
from .space import Choices

__all__ = [
    'METHODS',
    'AutoScaling',
    'Budget',
    'Choices',
    'Clock',
    'ComplexityMeasure',
    'Latency',
    'Measure',
    'Measurement',
    'Memo',
    'RandomSearch',
    'RegularizedEvolution',
    'Reinforce',
    'Request',
    'SearchMethod',
    'SharedMeasure',
    'WithinLatency',
    'dense_ranks',
    'help_measuring',
    'is_refused',
    'known_latencies',
    'measured_fields',
    'metric_change',
    'next_sizes',
    'rank_networks',
    'recorded_latency',
    'relative_range',
    'result_of',
    'reward',
    'search_seeds',
    'too_slow',
    'with_helpers',
]
