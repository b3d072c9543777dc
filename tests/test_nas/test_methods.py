"""All search methods on a cheap measure, and the loop that they run in."""

import json

import numpy as np
import pytest
import torch

from asvit_mm.arch import SEARCH_SPACE, as_architecture
from asvit_mm.measures import Score
from asvit_mm.nas import METHODS, Measurement
from asvit_mm.nas.methods import best_ranked
from asvit_mm.runs.settings import METHOD_NAMES

from .toy import WANTED, choices, distance_measure, measuring, records_of


def run(name, steps, seed=0, measure=distance_measure):
    method = METHODS[name](seed=seed)
    return records_of(method, measure, steps), method


def agreeing(arch):
    return sum(a == b for a, b in zip(choices(arch), choices(WANTED), strict=True))


def test_the_command_line_names_all_methods():
    assert tuple(METHODS) == METHOD_NAMES


@pytest.mark.parametrize('name', METHODS)
def test_same_seed_same_trace(name):
    first, _ = run(name, 60, seed=3)
    torch.manual_seed(99)
    np.random.seed(99)
    assert run(name, 60, seed=3)[0] == first
    assert run(name, 60, seed=4)[0] != first
    assert run(name, 25, seed=3)[0] == first[:25]


@pytest.mark.parametrize('name', METHODS)
def test_records(name):
    records, method = run(name, 70)
    assert json.loads(json.dumps(records, allow_nan=False)) == records
    assert [record['step'] for record in records] == list(range(70))
    seen = set()
    for record in records:
        assert record['recalled'] == (record['arch'] in seen)
        seen.add(record['arch'])
        assert as_architecture(record['arch']).is_seed
    assert records[-1]['best'] == str(method.best)


@pytest.mark.parametrize('name', ['evolution', 'random'])
def test_the_best_is_that_of_the_smallest_rank_sum(name):
    records, method = run(name, 80)
    lengths = sorted({r['length_distortion'] for r in records}, reverse=True)
    kappas = sorted({r['ntk_condition_number'] for r in records})
    sums = {
        r['arch']: lengths.index(r['length_distortion']) + kappas.index(r['ntk_condition_number'])
        for r in records
    }
    assert sums[str(method.best)] == min(sums.values())


def test_learning_methods_come_closer_than_random_search():
    closest = {name: agreeing(run(name, 400)[1].best) for name in METHODS}
    assert closest['reinforce'] >= 11
    assert closest['evolution'] >= 11
    assert closest['random'] <= 9


def test_a_child_differs_from_a_living_network_in_one_choice():
    records, _ = run('evolution', 120)
    indices = [SEARCH_SPACE.encode(as_architecture(record['arch'])) for record in records]
    for step in range(50, 120):
        # The oldest of 50 dies with every child.
        changes = [
            sum(a != b for a, b in zip(indices[step], parent, strict=True))
            for parent in indices[step - 50 : step]
        ]
        assert 1 in changes


def test_networks_that_cannot_be_measured_are_never_the_best():
    numbers = iter(range(40))
    good = Measurement(Score(1.0), Score(2.0))
    bad = Measurement(Score(100.0), Score.bad('singular'))
    records, method = run(
        'random', 40, measure=measuring(lambda _: good if next(numbers) == 7 else bad)
    )
    assert str(method.best) == records[7]['arch']


def test_without_any_whole_measurement_the_rest_decides():
    archs = [SEARCH_SPACE.decode([i] + [0] * 11) for i in range(3)]
    assert (
        best_ranked(list(zip(archs, [(1.0, None), (2.0, None), (None, None)], strict=True)))
        == archs[1]
    )
