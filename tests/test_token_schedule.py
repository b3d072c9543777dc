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
    """A phase ends where its share does; one that rounds to nothing is left out, never the last."""
    schedule = [dict(end=end / ends[-1], stride=4 * number) for number, end in enumerate(ends, 1)]
    phases = phases_of_run(read_schedule(schedule), length)
    rounded = [round(end / ends[-1] * length) for end in ends]
    expected = [
        (end, 4 * number)
        for number, (end, start, after) in enumerate(
            zip(rounded, [0, *rounded], [*rounded[1:], None], strict=False), 1
        )
        if end > 0 and end != after
    ]
    assert [(phase.end, phase.stride) for phase in phases] == expected
    assert (phases[-1].end, phases[-1].stride) == (length, 4 * len(ends))


def test_several_strides_and_factors_of_the_learning_rate():
    assert read_schedule('16|8|4@1.0') == (Phase(1.0, (16, 8, 4)),)
    assert read_schedule('16/1*0.5@8, 8|4*2@14, 4@30') == (
        Phase(8, 16, 1, lr_factor=0.5),
        Phase(14, (8, 4), lr_factor=2.0),
        Phase(30, 4),
    )
    (phase,) = read_schedule([dict(end=1.0, stride=[8, 4], weights=[1, 3])])
    assert phase.shares == {8: 0.25, 4: 0.75}
    assert [phase.pick(number) for number in (0, 0.2, 0.25, 0.9999)] == [8, 8, 4, 4]
    costs = {8: 10.0, 4: 30.0}
    assert mean_cost(phases_of_run([phase], 7), costs, 5) == pytest.approx(25)


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        (dict(stride=[]), 'no token stride'),
        (dict(stride=[8, 8]), 'given twice'),
        (dict(stride=[8, 0]), 'token stride 0'),
        (dict(stride=[8, 4], dilation=1), 'a dilation goes with one'),
        (dict(stride=[8, 4], weights=[1]), 'a positive number for each'),
        (dict(stride=[8, 4], weights=[1, 0]), 'a positive number for each'),
        (dict(stride=8, lr_factor=0), 'lr_factor 0 is not'),
    ],
)
def test_strides_weights_and_factors_are_checked(fields, message):
    with pytest.raises(InputError, match=f'phase 1: .*{message}'):
        read_schedule([dict(end=1.0, **fields)])
