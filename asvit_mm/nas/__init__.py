"""Search of a seed and its scaling, both without training."""

from .evaluator import ComplexityMeasure, Measure, Measurement, Memo, Request
from .filling import draw_filling, with_finer_tokens
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
from .parallel import SharedMeasure, call_on_all_ranks, help_main_rank, with_helpers
from .pareto import pareto_front, percentile_scores
from .race import Cost, Round, choose_finalists, going_on, plan_race, rank_by_accuracy
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
    'Cost',
    'Latency',
    'Measure',
    'Measurement',
    'Member',
    'Memo',
    'RandomSearch',
    'RegularizedEvolution',
    'Reinforce',
    'Request',
    'Round',
    'SearchMethod',
    'SharedMeasure',
    'Step',
    'call_on_all_ranks',
    'choose_finalists',
    'draw_filling',
    'going_on',
    'help_main_rank',
    'iterate_search',
    'larger_networks',
    'measure_proxies',
    'pareto_front',
    'percentile_scores',
    'plan_race',
    'rank_by_accuracy',
    'rank_networks',
    'result_of',
    'space_for',
    'with_finer_tokens',
    'with_helpers',
]
