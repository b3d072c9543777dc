"""Search of a seed and its scaling, both without training."""

from .baselines import RandomSearch, RegularizedEvolution
from .budget import Budget
from .evaluator import ComplexityMeasure, Measure, Measurement, Memo, Request
from .latency import Clock, Latency, WithinLatency
from .methods import METHODS, SearchMethod, Step, iterate_search, result_of
from .parallel import SharedMeasure, help_measuring, with_helpers
from .reinforce import Reinforce
from .rewards import rank_networks
from .scaling import AutoScaling, Candidate, Member, next_sizes
from .space import Choices

__all__ = [
    'METHODS',
    'AutoScaling',
    'Budget',
    'Candidate',
    'Choices',
    'Clock',
    'ComplexityMeasure',
    'Latency',
    'Measure',
    'Measurement',
    'Member',
    'Memo',
    'RandomSearch',
    'RegularizedEvolution',
    'Reinforce',
    'Request',
    'SearchMethod',
    'SharedMeasure',
    'Step',
    'WithinLatency',
    'help_measuring',
    'iterate_search',
    'next_sizes',
    'rank_networks',
    'result_of',
    'with_helpers',
]
