"""Search of a seed and its scaling, both without training."""

from .evaluator import ComplexityMeasure, Measure, Measurement, Memo, Request
from .limits import Budget, Clock, Latency
from .methods import (
    METHODS,
    RandomSearch,
    RegularizedEvolution,
    SearchMethod,
    Step,
    iterate_search,
    result_of,
)
from .parallel import SharedMeasure, help_measuring, with_helpers
from .ranking import rank_networks
from .reinforce import Reinforce
from .scaling import AutoScaling, Candidate, Member, larger_networks, measure_proxies
from .space import Choices, space_for

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
    'help_measuring',
    'iterate_search',
    'larger_networks',
    'measure_proxies',
    'rank_networks',
    'result_of',
    'space_for',
    'with_helpers',
]
