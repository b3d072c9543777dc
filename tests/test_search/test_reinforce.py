"""The search on cheap measures; determinism and the update by hand."""

import json
import math

import numpy as np
import pytest
import torch

from asvit_mm.arch import SEARCH_SPACE, as_architecture
from asvit_mm.complexity import Score
from asvit_mm.search import Measurement, ReinforceSearch, complexity_measure

from .toy import WANTED, distance_measure


def run(search, steps):
    return [search.step() for _ in range(steps)]


def test_finds_the_optimum():
    search = ReinforceSearch(distance_measure, seed=0)
    assert search.entropy == pytest.approx(math.log(SEARCH_SPACE.size), abs=1e-3)
    run(search, 450)
    assert search.most_likely == WANTED
    assert search.entropy < 3


def test_same_seed_same_trace():
    first = run(ReinforceSearch(distance_measure, seed=3), 15)
    torch.manual_seed(99)
    np.random.seed(99)
    assert run(ReinforceSearch(distance_measure, seed=3), 15) == first
    assert run(ReinforceSearch(distance_measure, seed=4), 15) != first


def test_records_are_plain_and_complete():
    search = ReinforceSearch(distance_measure, seed=0)
    records = run(search, 3)
    assert json.loads(json.dumps(records, allow_nan=False)) == records
    assert [record['step'] for record in records] == [0, 1, 2]
    assert records[0]['reward'] == 0
    for record in records:
        arch = SEARCH_SPACE.decode(record['indices'])
        assert str(arch) == record['arch']
        score = distance_measure(arch)
        assert record['length_distortion'] == score.length_distortion.value
        assert record['ntk_condition_number'] == score.ntk_condition_number.value


def test_the_step_is_reinforce_by_hand():
    """One step against the gradient written out: (1[i] - p) * advantage, through Adam."""
    search = ReinforceSearch(distance_measure, seed=5)
    search.step()
    before = search.logits.detach().clone()
    record = search.step()
    ascent = []
    for part, index in zip(before.split(search.sizes), record['indices'], strict=True):
        one = torch.nn.functional.one_hot(torch.tensor(index), len(part))
        ascent.append(one - part.softmax(0))
    advantage = record['reward'] - record['baseline']
    # The first step's advantage is 0, so Adam's moments start here with its second step.
    gradient = -advantage * torch.cat(ascent)
    mean, square = 0.1 * gradient / (1 - 0.9**2), 0.001 * gradient**2 / (1 - 0.999**2)
    expected = before - 0.08 * mean / (square.sqrt() + 1e-8)
    torch.testing.assert_close(search.logits.detach(), expected, rtol=1e-6, atol=1e-9)


def test_samples_follow_the_policy():
    search = ReinforceSearch(distance_measure, seed=0)
    with torch.no_grad():
        search.logits.copy_(torch.linspace(-1, 1, sum(search.sizes)))
    wanted = [part.softmax(0) for part in search.logits.detach().split(search.sizes)]
    # No learning: the policy stays as it is.
    search.optimizer.param_groups[0]['lr'] = 0.0
    records = run(search, 1500)
    for i, probabilities in enumerate(wanted):
        counts = torch.bincount(
            torch.tensor([record['indices'][i] for record in records]), minlength=len(probabilities)
        )
        torch.testing.assert_close(counts / len(records), probabilities.float(), atol=0.05, rtol=0)


def test_a_bad_network_is_recorded_and_takes_the_worst_kappa():
    def measure(arch, step):
        if step == 2:
            return Measurement(Score(1.0), Score.bad('singular'))
        return Measurement(Score(1.0), Score([5.0, 9.0, 0.0, 7.0][step]))

    records = run(ReinforceSearch(measure, seed=0), 4)
    assert records[2]['ntk_condition_number'] is None
    assert records[2]['bad'] == 'ntk_condition_number: singular'
    assert records[2]['reward'] == pytest.approx(0, abs=1e-6)
    assert records[3]['reward'] == pytest.approx(0.5, abs=1e-5)
    assert 'bad' not in records[3]


def test_on_the_real_measure():
    images = torch.randn(1, 3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    measure = complexity_measure(images, img_size=16, repeat=1, seed=0)
    first = run(ReinforceSearch(measure, seed=0), 2)
    assert run(ReinforceSearch(measure, seed=0), 2) == first
    assert as_architecture(first[0]['arch']).is_seed
    assert first[0]['length_distortion'] > 0
