"""Limits in closed form against brute force; no method returns a network that breaks one."""

import itertools
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asvit_mm.arch import PRESETS, SEARCH_SPACE, SearchSpace, as_architecture
from asvit_mm.cost import count_macs, count_params
from asvit_mm.errors import InputError
from asvit_mm.nas import METHODS, Budget, Latency

from .toy import distance_measure, records_of

# Token grids at 56, 100 and 250 pixels are not tiled by all splits.
SIZES = st.integers(16, 256) | st.sampled_from([16, 32, 56, 100, 224, 250])


@st.composite
def small_spaces(draw, most=192):
    """A space with some of the values of every choice, in their order."""
    choices, size = {}, 1
    for name in draw(st.permutations(list(SEARCH_SPACE.choices))):
        values = SEARCH_SPACE.choices[name]
        number = draw(st.integers(1, max(1, min(len(values), most // size))))
        taken = draw(st.sets(st.sampled_from(values), min_size=number, max_size=number))
        choices[name] = tuple(sorted(taken))
        size *= number
    return SearchSpace({name: choices[name] for name in SEARCH_SPACE.choices})


def every(space):
    """The indices of every network of a space."""
    return list(itertools.product(*(range(len(values)) for values in space.choices.values())))


@given(small_spaces(), SIZES, st.data())
@settings(max_examples=25)
def test_what_is_allowed_is_what_some_network_within_the_limits_begins_with(space, size, data):
    """So every draw ends within the limits, and everything within them can be drawn."""
    free = Budget(10, size)
    costs = {i: (free.params(a), free.macs(a)) for i in every(space) for a in [space.decode(i)]}
    limits = [
        data.draw(st.none() | st.sampled_from(sorted({cost[k] for cost in costs.values()})))
        for k in (0, 1)
    ]
    within = [
        indices
        for indices, cost in costs.items()
        if all(limit is None or c <= limit for c, limit in zip(cost, limits, strict=True))
    ]
    budget = Budget(10, size, *limits)
    assert {i for i in costs if budget.fits(space.decode(i))} == set(within)
    # The smallest has the least of both, so there is always one.
    choices = budget.choices(space)
    begun = {indices[:k] for indices in within for k in range(len(space.choices) + 1)}
    for before in begun:
        if len(before) < len(space.choices):
            allowed = choices.allowed(before)
            assert allowed == [(*before, i) in begun for i in range(len(allowed))]


@given(SIZES, st.integers(2, 1000))
@settings(max_examples=20)
def test_no_seed_is_smaller_than_the_smallest(size, classes):
    """Over all values of a stage and H, the other stages at their smallest: stages add up."""
    budget = Budget(classes, size)
    smallest = budget.smallest_seeds()
    least = budget.params(smallest[0]), budget.macs(smallest[0])
    assert {(budget.params(seed), budget.macs(seed)) for seed in smallest} == {least}
    start, names = SEARCH_SPACE.encode(smallest[0]), list(SEARCH_SPACE.choices)
    for group in (*'1234', 'H'):
        places = [k for k, name in enumerate(names) if name.endswith(group)]
        for values in itertools.product(
            *(range(len(SEARCH_SPACE.choices[names[k]])) for k in places)
        ):
            indices = list(start)
            for k, value in zip(places, values, strict=True):
                indices[k] = value
            seed = SEARCH_SPACE.decode(indices)
            assert budget.params(seed) >= least[0]
            assert budget.macs(seed) >= least[1]


def test_the_stages_of_a_cost_add_up():
    """What the test above rests on: a change of one stage costs the same whatever the others are."""
    budget = Budget(10, 100)
    first, second = (
        as_architecture(f'4,2,2|{middle}|2,1,2|2,1,2|16') for middle in ('2,1,2', '4,4,6')
    )
    for count in (budget.params, budget.macs):
        changes = {
            count(as_architecture(str(arch).replace('4,2,2|', '8,8,6|', 1))) - count(arch)
            for arch in (first, second)
        }
        assert len(changes) == 1


@pytest.fixture(scope='module')
def median():
    """Costs that about half of all seeds keep, for the digits at 32 px."""
    seeds = [SEARCH_SPACE.sample(np.random.default_rng(i)) for i in range(300)]
    free = Budget(10, 32)
    return [int(np.median([count(seed) for seed in seeds])) for count in (free.params, free.macs)]


def milliseconds(arch):
    return arch.heads / 8 + 2 * arch.splits[0] + arch.kernels[0] / 10


@pytest.mark.parametrize('name', METHODS)
@pytest.mark.parametrize('limits', ['both', 'tight', 'latency', 'all'])
def test_no_method_breaks_a_limit(name, limits, median):
    params, macs = median
    smallest = Budget(10, 32).smallest_seeds()[0]
    closed = {
        'both': (params, macs),
        'tight': (count_params(smallest, 10, img_size=32), count_macs(smallest, 32, 10)),
        'latency': (None, None),
        'all': (params, macs),
    }[limits]
    limit = 10.0 if limits in ('latency', 'all') else None
    budget = Budget(10, 32, *closed)
    latency = None if limit is None else Latency(milliseconds, limit)
    measure = distance_measure if latency is None else partial(latency.measure, distance_measure)
    method = METHODS[name](budget.choices(), seed=3)
    records = records_of(method, measure, 120)
    asked = [as_architecture(record['arch']) for record in records]
    best = [as_architecture(record['best']) for record in records if record['best']]
    found = best[-1]
    for arch in (*asked, *best):
        assert closed[0] is None or count_params(arch, 10, img_size=32) <= closed[0]
        assert closed[1] is None or count_macs(arch, 32, 10) <= closed[1]
    assert (limits == 'tight') == (len({arch.kernels for arch in asked}) == 1)
    if limit is not None:
        assert milliseconds(found) <= limit
        slow = [
            record for record in records if milliseconds(as_architecture(record['arch'])) > limit
        ]
        assert 0 < len(slow) < len(records)
        for record in records:
            assert record['latency_ms'] == round(milliseconds(as_architecture(record['arch'])), 3)
            assert (record in slow) == (record['length_distortion'] is None)
            assert (record in slow) == ('refused' in record)


@pytest.mark.parametrize(('place', 'option'), [(0, '--max-params'), (1, '--max-flops')])
def test_the_figure_that_a_refusal_names_is_enough(place, option):
    def choices(limit):
        return Budget(10, 100, *(limit if k == place else None for k in (0, 1))).choices()

    with pytest.raises(InputError, match='smallest seed has') as error:
        choices(10_000)
    assert f'{option} 10,000 is less' in str(error.value)
    enough = int(str(error.value).split('give at least ')[1].replace(',', ''))
    choices(enough)
    with pytest.raises(InputError, match=f'{enough:,}'):
        choices(enough - 1)


def test_limits_that_only_together_cannot_be_kept():
    """Of two networks one has fewer parameters, the other fewer multiply-adds."""
    deep = as_architecture('4,2,2,1|2,1,2,1|2,1,2,1|2,1,2,2|16,32')
    wide = as_architecture('4,2,2,3|2,1,2,1|2,1,2,1|2,1,2,1|16,32')
    free = Budget(10, 64)
    assert free.params(deep) > free.params(wide)
    assert free.macs(deep) < free.macs(wide)
    budget = Budget(10, 64, free.params(wide), free.macs(deep))
    with pytest.raises(InputError, match='together') as error:
        budget.check([deep, wide], 'candidate')
    assert f'--max-params at least {free.params(deep):,}' in str(error.value)
    Budget(10, 64, free.params(deep), free.macs(deep)).check([deep, wide], 'candidate')


def test_in_words():
    assert str(Budget(10, 32, 3_000_000)) == '3,000,000 parameters'
    both = Budget(10, 32, 3_000_000, 400_000_000)
    assert str(both) == '3,000,000 parameters or 400,000,000 multiply-adds'
    assert str(Budget(10, 32)) == 'no limit'


def test_without_limits_nothing_changes():
    """The choices are those of the paper's method: the same draws."""
    for name in METHODS:
        plain = METHODS[name](seed=5).ask()
        assert METHODS[name](Budget(10, 32).choices(), seed=5).ask() == plain
        assert METHODS[name](Budget(10, 32, 10**9).choices(), seed=5).ask() == plain


def test_what_a_network_leaves_of_its_limits_is_explained():
    arch, larger = PRESETS['seed'], [PRESETS['small'], PRESETS['base']]
    plain = Budget(10, 32)
    params, macs = plain.params(arch), plain.macs(arch)

    def why(max_params, max_macs, because='the measures preferred it'):
        uses = Budget(10, 32, max_params, max_macs).explain(arch, larger, because)
        assert [use['used'] for use in uses] == [params, macs]
        return [use['why'] for use in uses]

    next_params = f'{plain.params(PRESETS["small"]):,}'
    assert why(params + 1, macs + 1)[0] == f'the next larger network would have {next_params}'
    assert why(params + 1, 10**12)[1] == 'every larger network exceeds --max-params'
    assert why(10**12, 10**12) == ['the measures preferred it'] * 2
    assert plain.explain(arch, larger, '') == []
