"""Measurements shared out: who does what, and two real processes against one."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import distributed

from asvit_mm.arch import PRESETS, as_architecture
from asvit_mm.errors import InputError
from asvit_mm.measures import SEARCH_MEASURES
from asvit_mm.nas import (
    ComplexityMeasure,
    SharedMeasure,
    call_on_all_ranks,
    help_main_rank,
    with_helpers,
)
from asvit_mm.nas.parallel import COSTS, share_out

from ..test_tools.runs import PROCESSES

REQUESTS = [
    (PRESETS['seed'], 0),
    (as_architecture('4,2,2|2,1,2|2,1,2|2,1,2|16'), 0),
    (PRESETS['seed'], 1),
]


@given(st.integers(1, 6), st.integers(1, 3), st.integers(1, 9))
def test_every_unit_has_one_owner_and_nobody_much_more_than_others(repeat, archs, num):
    units = [(i, r, name) for i in range(archs) for r in range(repeat) for name in SEARCH_MEASURES]
    shares = share_out(units, num)
    assert len(shares) == num
    assert Counter(unit for share in shares for unit in share) == Counter(units)
    loads = [sum(COSTS[name] for *_, name in share) for share in shares]
    assert max(loads) - min(loads) <= max(COSTS.values())


def test_two_processes_share_five_networks_almost_evenly():
    units = [(0, r, name) for r in range(5) for name in SEARCH_MEASURES]
    loads = [sum(COSTS[name] for *_, name in share) for share in share_out(units, 2)]
    assert max(loads) < 0.55 * sum(loads)


def real_measure(repeat):
    generator = torch.Generator().manual_seed(0)
    return ComplexityMeasure(
        torch.randn(repeat, 3, 3, 16, 16, generator=generator), img_size=16, seed=3
    )


def test_one_process_alone():
    measure = real_measure(2)
    assert list(SharedMeasure(measure)(REQUESTS)) == list(measure(REQUESTS))


class Failing(ComplexityMeasure):
    """Fails on one rank, as where a GPU has no memory left."""

    def network(self, request, number, names=SEARCH_MEASURES):
        if distributed.get_rank() == self.img_size - 16:
            raise InputError('no memory for one image')
        return super().network(request, number, names)


def failing_on(rank):
    measure = Failing(real_measure(1).images, img_size=16, seed=3)
    # What is sent is pickled: the size says which rank shall fail.
    object.__setattr__(measure, 'img_size', 16 + rank)
    return measure


def on_rank(rank, rendezvous, results):
    """Several runs one after the other: what each measures, or the error that it ends with."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        'gloo', init_method=f'file://{rendezvous}', rank=rank, world_size=2
    )
    found = []
    for measure in (real_measure(3), real_measure(1), failing_on(0), failing_on(1)):
        try:
            if rank == 0:
                shared = SharedMeasure(measure)
                with with_helpers():
                    found.append([*shared(REQUESTS), *shared(REQUESTS[:1])])
                    found.append(call_on_all_ranks(abs, [-1, 2, -3]))
            else:
                help_main_rank()
        except InputError as error:
            found.append(str(error))
    results.put((rank, found))
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_find_what_one_finds_and_both_end_with_an_error_of_either(tmp_path):
    """With more networks than processes, and with fewer."""
    results = PROCESSES.Queue()
    processes = [
        PROCESSES.Process(target=on_rank, args=(rank, tmp_path / 'meet', results))
        for rank in (0, 1)
    ]
    for process in processes:
        process.start()
    found = dict(results.get(timeout=240) for _ in processes)
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    expected = []
    for measure in map(real_measure, (3, 1)):
        expected += [[*measure(REQUESTS), *measure(REQUESTS[:1])], [1, 2, 3]]
    errors = ['no memory for one image'] * 2
    assert found == {0: [*expected, *errors], 1: errors}
