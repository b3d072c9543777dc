"""The search on cheap measures; determinism and the update by hand."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asvit_mm.arch import SEARCH_SPACE, as_architecture
from asvit_mm.measures import Score
from asvit_mm.nas import Choices, ComplexityMeasure, Measurement, Memo, Reinforce, iterate_search
from asvit_mm.nas.reinforce import MovingAverage, fill_with_worst, metric_change, reward

from .toy import WANTED, distance, distance_measure, measuring, records_of

VALUES = st.floats(0, 1e6).map(lambda v: round(v, 2))


def run(search, steps, measure=distance_measure):
    return records_of(search, measure, steps)


def test_finds_the_optimum():
    search = Reinforce(seed=0)
    assert search.entropy == pytest.approx(math.log(SEARCH_SPACE.size), abs=1e-3)
    run(search, 450)
    assert search.best == WANTED
    assert search.entropy < 3


def test_records_are_plain_and_complete():
    search = Reinforce(seed=0)
    records = run(search, 3)
    assert json.loads(json.dumps(records, allow_nan=False)) == records
    assert [record['step'] for record in records] == [0, 1, 2]
    assert records[0]['reward'] == 0
    for record in records:
        score = distance(as_architecture(record['arch']))
        assert record['length_distortion'] == score.length_distortion.value
        assert record['ntk_condition_number'] == score.ntk_condition_number.value


def test_the_step_is_reinforce_by_hand():
    """One step against the gradient written out: (1[i] - p) * advantage, through Adam."""
    search = Reinforce(seed=5)
    steps = iterate_search(search, Memo(distance_measure), 2)
    next(steps)
    before = search.logits.detach().clone()
    step = next(steps)
    indices = SEARCH_SPACE.encode(step.arch)
    ascent = []
    for part, index in zip(before.split(search.choices.sizes), indices, strict=True):
        one = torch.nn.functional.one_hot(torch.tensor(index), len(part))
        ascent.append(one - part.softmax(0))
    advantage = step.figures['reward'] - step.figures['baseline']
    # The first step's advantage is 0, so Adam's moments start here with its second step.
    gradient = -advantage * torch.cat(ascent)
    mean, square = 0.1 * gradient / (1 - 0.9**2), 0.001 * gradient**2 / (1 - 0.999**2)
    expected = before - 0.08 * mean / (square.sqrt() + 1e-8)
    torch.testing.assert_close(search.logits.detach(), expected, rtol=1e-6, atol=1e-9)


def test_samples_follow_the_policy():
    search = Reinforce(seed=0)
    with torch.no_grad():
        search.logits.copy_(torch.linspace(-1, 1, sum(search.choices.sizes)))
    wanted = [part.softmax(0) for part in search.logits.detach().split(search.choices.sizes)]
    # No learning: the policy stays as it is.
    search.optimizer.param_groups[0]['lr'] = 0.0
    records = run(search, 500)
    drawn = [SEARCH_SPACE.encode(as_architecture(record['arch'])) for record in records]
    for i, probabilities in enumerate(wanted):
        counts = torch.bincount(
            torch.tensor([indices[i] for indices in drawn]), minlength=len(probabilities)
        )
        torch.testing.assert_close(counts / len(records), probabilities.float(), atol=0.08, rtol=0)


def test_a_bad_network_is_recorded_and_takes_the_worst_kappa():
    kappas = iter([Score(5.0), Score(9.0), Score.bad('singular'), Score(7.0)])
    measure = measuring(lambda arch: Measurement(Score(1.0), next(kappas)))
    records = run(Reinforce(seed=0), 4, measure)
    assert records[2]['ntk_condition_number'] is None
    assert records[2]['invalid'] == {'ntk_condition_number': 'singular'}
    assert records[2]['reward'] == pytest.approx(0, abs=1e-6)
    assert records[3]['reward'] == pytest.approx(0.5, abs=1e-5)
    assert 'invalid' not in records[3]


def test_on_the_real_measure():
    images = torch.randn(1, 3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    measure = ComplexityMeasure(images, img_size=16)
    first = run(Reinforce(seed=0), 2, measure)
    assert run(Reinforce(seed=0), 2, measure) == first
    assert as_architecture(first[0]['arch']).is_seed
    assert first[0]['length_distortion'] > 0


def small_expansions(arch):
    return sum(arch.expansions) <= 10


def expansions(arch):
    return sum(arch.expansions)


def test_within_limits_every_sample_keeps_them_and_the_update_is_that_of_autograd():
    search = Reinforce(Choices(SEARCH_SPACE, small_expansions, expansions), seed=1)
    steps = iterate_search(search, Memo(distance_measure), 12)
    for _ in range(11):
        assert small_expansions(next(steps).arch)
    before = search.logits.detach().clone().requires_grad_()
    search.optimizer.param_groups[0]['lr'] = 0.0
    step = next(steps)
    indices = SEARCH_SPACE.encode(step.arch)
    # The probability of the sample, by products of renormalised probabilities.
    probability = torch.ones((), dtype=torch.float64)
    for k, logits in enumerate(before.split(search.choices.sizes)):
        probs = logits.softmax(0)
        allowed = search.choices.allowed(indices[:k])
        probability = probability * probs[indices[k]] / probs[torch.tensor(allowed)].sum()
    (-probability.log() * (step.figures['reward'] - step.figures['baseline'])).backward()
    torch.testing.assert_close(search.logits.grad, before.grad)
    assert small_expansions(search.best)


def test_within_limits_it_finds_the_best_that_keeps_them():
    search = Reinforce(Choices(SEARCH_SPACE, small_expansions, expansions), seed=0)
    run(search, 450)
    # The wanted one has expansions 2, 6, 4, 2; what limits leave can differ from it there only.
    assert small_expansions(search.best)
    assert (search.best.kernels, search.best.splits) == (WANTED.kernels, WANTED.splits)


def test_change_by_hand():
    assert metric_change([]) == 0
    assert metric_change([3.0]) == 0
    assert metric_change([1.0, 5.0, 3.0]) == pytest.approx(-2 / 4, rel=1e-6)
    assert metric_change([2.0, 2.0]) == 0


def test_change_forgets_what_is_older_than_the_window():
    old, recent = [1000.0], [float(i) for i in range(20)]
    assert metric_change(old + recent) == pytest.approx(1 / 19, rel=1e-6)
    assert metric_change(old + recent[:-1]) == pytest.approx(1 / 1000, rel=1e-6)


@given(st.lists(VALUES, min_size=2, max_size=50))
def test_change_is_a_share_of_the_range(values):
    change = metric_change(values)
    assert -1 <= change <= 1
    assert math.copysign(1, change) == math.copysign(1, values[-1] - values[-2]) or change == 0
    assert change == metric_change(values[-20:])


@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=40))
def test_reward_is_the_change_of_one_less_that_of_the_other(pairs):
    lengths, kappas = map(list, zip(*pairs, strict=True))

    def change(values):
        last = values[-20:]
        return (values[-1] - values[-2]) / (max(last) - min(last) + 1e-6)

    expected = -change(kappas) + change(lengths) if len(pairs) > 1 else 0
    assert reward(lengths, kappas) == pytest.approx(expected, abs=1e-12)


def test_reward_prefers_longer_curves_and_smaller_condition_numbers():
    assert reward([1.0, 2.0], [5.0, 4.0]) == pytest.approx(2, abs=1e-5)
    assert reward([2.0, 1.0], [4.0, 5.0]) == pytest.approx(-2, abs=1e-5)


def test_a_bad_network_takes_the_worst_seen_so_far():
    assert fill_with_worst([3.0, None, 9.0, None], larger_is_better=False) == [3.0, 9.0, 9.0, 9.0]
    assert fill_with_worst([3.0, None, 9.0], larger_is_better=True) == [3.0, 3.0, 9.0]
    assert fill_with_worst([None, None], larger_is_better=False) == [0.0, 0.0]
    # 2 -> 6 (the worst) on a range of 4, and back again.
    assert reward([1.0] * 3, [6.0, 2.0, None]) == pytest.approx(-1, abs=1e-5)
    assert reward([1.0] * 4, [6.0, 2.0, None, 2.0]) == pytest.approx(1, abs=1e-5)


@given(st.lists(st.none() | VALUES, min_size=1, max_size=30))
def test_bad_networks_never_make_a_reward_infinite(kappas):
    assert -1 <= reward([1.0] * len(kappas), kappas) <= 1


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=60), st.floats(0.1, 0.95))
def test_moving_average_is_the_weighted_mean(values, momentum):
    average = MovingAverage(momentum)
    for value in values:
        result = average.update(value)
    weights = [momentum**age for age in range(len(values))][::-1]
    mean = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
    assert result == pytest.approx(mean, abs=1e-9)
