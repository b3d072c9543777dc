"""Measurements shared out: who does what, and two real processes against one."""

import multiprocessing
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import distributed

from asvit_mm.arch import PRESETS, as_architecture
from asvit_mm.errors import InputError
from asvit_mm.measures import SEARCH_MEASURES
from asvit_mm.nas import ComplexityMeasure, SharedMeasure, help_measuring, with_helpers
from asvit_mm.nas.parallel import COSTS, share_out

REQUESTS = [
    (PRESETS['seed'], 0),
    (as_architecture('4,2,2|2,1,2|2,1,2|2,1,2|16'), 0),
    (PRESETS['seed'], 1),
]


@given(st.integers(1, 6), st.integers(1, 3), st.integers(1, 9))
def test_every_unit_has_one_owner_and_nobody_much_more_than_others(repeat, archs, num):
    units = [(i, name, r) for i in range(archs) for r in range(repeat) for name in SEARCH_MEASURES]
    shares = share_out(units, num)
    assert len(shares) == num
    assert Counter(unit for share in shares for unit in share) == Counter(units)
    loads = [sum(COSTS[name] for _, name, _ in share) for share in shares]
    assert max(loads) - min(loads) <= max(COSTS.values())


def test_two_processes_share_five_networks_almost_evenly():
    units = [(0, name, r) for r in range(5) for name in SEARCH_MEASURES]
    loads = [sum(COSTS[name] for _, name, _ in share) for share in share_out(units, 2)]
    assert max(loads) < 0.55 * sum(loads)


def real_measure(repeat):
    generator = torch.Generator().manual_seed(0)
    return ComplexityMeasure(
        torch.randn(repeat, 3, 3, 16, 16, generator=generator), img_size=16, seed=3
    )


def test_one_process_alone():
    measure = real_measure(2)
    assert list(SharedMeasure(measure)(REQUESTS)) == list(measure(REQUESTS))


def work(rank, num, repeat, rendezvous, results):
    torch.set_num_threads(1)
    distributed.init_process_group(
        'gloo', init_method=f'file://{rendezvous}', rank=rank, world_size=num
    )
    if rank == 0:
        shared = SharedMeasure(real_measure(repeat))
        with with_helpers():
            results.put([*shared(REQUESTS), *shared(REQUESTS[:1])])
    else:
        help_measuring()
        results.put(torch.get_num_threads())
    distributed.destroy_process_group()


class Failing(ComplexityMeasure):
    """Fails in one process, as where a GPU has no memory left."""

    def network(self, request, number, names=SEARCH_MEASURES):
        if distributed.get_rank() == int(self.img_size == 17):
            raise InputError('no memory for one image')
        return super().network(request, number, names)


def fail(rank, bad, rendezvous, results):
    distributed.init_process_group(
        'gloo', init_method=f'file://{rendezvous}', rank=rank, world_size=2
    )
    measure = real_measure(1)
    measure = Failing(measure.images, img_size=16, seed=3)
    # What is sent is pickled: the size says which process shall fail.
    object.__setattr__(measure, 'img_size', 16 + bad)
    try:
        if rank == 0:
            with with_helpers():
                list(SharedMeasure(measure)(REQUESTS[:1]))
        else:
            help_measuring()
    except InputError as error:
        results.put((rank, str(error)))
    distributed.destroy_process_group()


@pytest.mark.parametrize('bad', [0, 1])
def test_an_error_in_measuring_is_everybodys(tmp_path, bad):
    context = multiprocessing.get_context('spawn')
    results = context.Queue()
    processes = [
        context.Process(target=fail, args=(rank, bad, tmp_path / 'meet', results))
        for rank in (0, 1)
    ]
    for process in processes:
        process.start()
    received = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    assert sorted(received) == [(rank, 'no memory for one image') for rank in (0, 1)]


@pytest.mark.parametrize(('num', 'repeat'), [(2, 3), (3, 1)])
def test_several_processes_find_what_one_finds(tmp_path, num, repeat):
    context = multiprocessing.get_context('spawn')
    results = context.Queue()
    processes = [
        context.Process(target=work, args=(rank, num, repeat, tmp_path / 'meet', results))
        for rank in range(num)
    ]
    for process in processes:
        process.start()
    received = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    measure = real_measure(repeat)
    expected = [*measure(REQUESTS), *measure(REQUESTS[:1])]
    assert [r for r in received if isinstance(r, list)] == [expected]
