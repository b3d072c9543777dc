import pytest
from hypothesis import given
from hypothesis import strategies as st

from asvit_mm.errors import InputError
from asvit_mm.token_schedule import (
    PUBLISHED,
    PUBLISHED_SAVINGS,
    PUBLISHED_STEPS,
    Phase,
    mean_cost,
    phase_at,
    phases_of_run,
    read_schedule,
)


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_schedules_of_300_epochs(name):
    first, second = PUBLISHED[name]
    phases = phases_of_run(read_schedule(name), 300)
    assert phases == (Phase(first, 16), Phase(second, 8), Phase(300, 4))
    assert [phase.stride for phase in read_schedule(name, 16)] == [64, 32, 16]


def test_published_savings():
    """The published savings follow from the published costs of a step."""
    for name, saved in PUBLISHED_SAVINGS.items():
        phases = phases_of_run(read_schedule(name), 300)
        assert 100 - mean_cost(phases, PUBLISHED_STEPS, 300) == pytest.approx(saved, abs=0.06)


schedules = st.lists(st.integers(1, 400), min_size=1, max_size=5, unique=True).map(sorted)


@given(schedules, st.data())
def test_against_a_walk_through_the_run(ends, data):
    schedule = [dict(end=end, stride=4 * (len(ends) - i)) for i, end in enumerate(ends)]
    phases = phases_of_run(read_schedule(schedule), ends[-1])
    strides = []
    for end, phase in zip(ends, schedule, strict=True):
        strides += [phase['stride']] * (end - len(strides))
    assert [phase_at(phases, step).stride for step in range(ends[-1])] == strides
    assert phase_at(phases, ends[-1] + 3).stride == strides[-1]
    until = data.draw(st.integers(1, ends[-1]))
    costs = {stride: 100 / stride for stride in strides}
    expected = sum(costs[stride] for stride in strides[:until]) / until
    assert mean_cost(phases, costs, until) == pytest.approx(expected)


def test_schedule_in_one_word():
    assert read_schedule('16@8,4@60') == (Phase(8, 16), Phase(60, 4))
    assert read_schedule('16@0.25, 12@.5, 4@1.0') == (
        Phase(0.25, 16),
        Phase(0.5, 12),
        Phase(1.0, 4),
    )
    assert read_schedule('16/1@8,8@14,4@30') == (Phase(8, 16, 1), Phase(14, 8), Phase(30, 4))


def test_shares_and_integers_are_not_mixed():
    with pytest.raises(InputError, match=r'phase 2 ends at 1: .* not both'):
        read_schedule('16@0.5,4@1')


@pytest.mark.parametrize(
    'word',
    ['16@', '@60', '16@8,4', '8@half,4@1.0', '16@8@9', '16@nan,4@1.0', '16/@8,4@9', '16/0@8,4@9'],
)
def test_malformed_word_is_refused(word):
    with pytest.raises(InputError, match='progressive tokenization: '):
        read_schedule(word)


@given(schedules, st.integers(1, 1000))
def test_shares_of_a_run(ends, length):
    schedule = [dict(end=end / ends[-1], stride=8) for end in ends]
    rounded = [round(end / ends[-1] * length) for end in ends]
    if len({0, *rounded}) == len(ends) + 1:
        phases = phases_of_run(read_schedule(schedule), length)
        assert [phase.end for phase in phases] == rounded
        assert phases[-1].end == length
    else:
        with pytest.raises(InputError, match=f'less than one iteration in a run of {length}'):
            phases_of_run(read_schedule(schedule), length, 'iteration')
