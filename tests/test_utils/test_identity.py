import pytest
from hypothesis import given
from hypothesis import strategies as st

from asvit_mm.errors import InputError
from asvit_mm.utils.identity import first_difference, read_object

PLAIN = st.recursive(
    st.integers() | st.text('xyz', max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('ab'), inner, max_size=3),
    max_leaves=8,
)
OBJECT = st.dictionaries(st.sampled_from('abc'), PLAIN, max_size=3)


@pytest.mark.parametrize(
    ('theirs', 'mine', 'words'),
    [
        ({'a': 1}, {'a': 1}, None),
        ({'b': 2, 'a': 1}, {'a': 1, 'b': 2}, None),
        ({'a': 1}, {'a': 2}, 'a is 1 there and 2 here'),
        ({'z': 0, 'a': {'b': 'x'}}, {'a': {'b': 'y'}}, "a.b is 'x' there and 'y' here"),
        ({'a': [1, 2]}, {'a': [1]}, 'a is [1, 2] there and [1] here'),
        ({'a': [{'b': 1}]}, {'a': [{'b': 2}]}, 'a.0.b is 1 there and 2 here'),
        ({'a': [{'b': 1}]}, {'a': []}, 'a is None there and [] here'),
        ({}, {'a': 1}, 'a is None there and 1 here'),
    ],
)
def test_the_first_difference_is_named(theirs, mine, words):
    assert first_difference(theirs, mine) == words


@given(OBJECT, st.sampled_from('abc'), st.integers())
def test_a_changed_value_is_always_found(mine, key, value):
    assert first_difference(mine, mine) is None
    theirs = {**mine, key: value}
    if mine.get(key) != value:
        assert first_difference(theirs, mine) is not None


@pytest.mark.parametrize(
    ('data', 'words'),
    [
        (b'{"a": 1', 'cannot be read'),
        (b'', 'cannot be read'),
        (b'\xff\xfe\x00', 'cannot be read'),
        (b'[1]', 'holds a list, not an object'),
    ],
)
def test_what_is_no_object(tmp_path, data, words):
    path = tmp_path / 'x.json'
    path.write_bytes(data)
    with pytest.raises(InputError, match=r'x\.json .*: go away') as error:
        read_object(path, 'go away')
    assert words in str(error.value)
    assert '\n' not in str(error.value)
