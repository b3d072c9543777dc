"""Cheap real measures, such as how far an architecture is from a wanted one."""

from asvit_mm.arch import SEARCH_SPACE, Architecture
from asvit_mm.cost import count_macs, count_params
from asvit_mm.measures import Score
from asvit_mm.nas import Measurement, Memo, iterate_search

WANTED = Architecture.parse('7,4,2|3,2,6|2,2,4|4,1,2|64')


def choices(arch):
    fields = {'H': arch.heads}
    for i in range(4):
        fields |= {
            f'K{i + 1}': arch.kernels[i],
            f'S{i + 1}': arch.splits[i],
            f'E{i + 1}': arch.expansions[i],
        }
    return [fields[name] for name in SEARCH_SPACE.choices]


def distance(arch):
    """L^E counts the first six choices that are as wanted, kappa the last six that are not."""
    hits = [a == b for a, b in zip(choices(arch), choices(WANTED), strict=True)]
    return Measurement(Score(10.0 + sum(hits[:6])), Score(10.0 + 6 - sum(hits[6:])))


def cost(arch, draw=0):
    """A deterministic mixture of costs, which differs for every size and every draw."""
    wobble = 1 + 0.01 * draw
    return Measurement(
        Score(count_macs(arch, 32) / 1e6 * wobble), Score(1e9 / count_params(arch) / wobble)
    )


def distance_measure(requests):
    return (distance(arch) for arch, _ in requests)


def cost_measure(requests):
    return (cost(*request) for request in requests)


def records_of(method, measure, steps):
    """The records of a search with a measure, or with a memo."""
    memo = measure if isinstance(measure, Memo) else Memo(measure)
    return [step.to_record() for step in iterate_search(method, memo, steps)]


def measuring(function):
    """A measure that calls ``function`` with each architecture."""
    return lambda requests: (function(arch) for arch, _ in requests)
