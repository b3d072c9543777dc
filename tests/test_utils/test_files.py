import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asvit_mm.errors import InputError
from asvit_mm.utils.files import (
    atomic_directory,
    atomic_file,
    atomic_write_json,
    atomic_write_text,
    first_difference,
    read_object,
)

PLAIN = st.recursive(
    st.integers() | st.text('xyz', max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('ab'), inner, max_size=3),
    max_leaves=8,
)
OBJECT = st.dictionaries(st.sampled_from('abc'), PLAIN, max_size=3)


def test_writes_the_text_and_nothing_else(tmp_path):
    path = tmp_path / 'new' / 'file.txt'
    assert atomic_write_text(path, 'one') == path
    atomic_write_text(path, 'two')
    assert path.read_text() == 'two'
    assert os.listdir(path.parent) == ['file.txt']
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask
    # what Python makes of a byte in a file name that is not UTF-8
    atomic_write_text(path, 'a\udcff')
    assert path.read_text() == r'a\udcff'


def test_a_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / 'file.json'
    atomic_write_json(path, {'a': 1})
    with pytest.raises(ValueError, match='JSON compliant'):
        atomic_write_json(path, {'a': float('nan')})
    assert json.loads(path.read_text()) == {'a': 1}
    assert os.listdir(tmp_path) == ['file.json']


def test_what_a_writer_of_paths_writes_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / 'new' / 'file.bin'

    def fail():
        with atomic_file(path) as temporary:
            temporary.write_text('half')
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert os.listdir(tmp_path) == []
    with atomic_file(path) as temporary:
        assert temporary.name == path.name
        temporary.write_text('whole')
        assert not path.parent.exists()
    assert path.read_text() == 'whole'
    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == 'whole'
    assert os.listdir(path.parent) == ['file.bin']


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / 'folder'

    def fail():
        with atomic_directory(path) as folder:
            (folder / 'a').write_text('a')
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert os.listdir(tmp_path) == []
    with atomic_directory(path) as folder:
        (folder / 'a').write_text('a')
        assert not path.exists()
    assert os.listdir(tmp_path) == ['folder']
    with pytest.raises(FileExistsError), atomic_directory(path):
        pass
    assert (path / 'a').read_text() == 'a'


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


@pytest.mark.skipif(not os.path.isdir('/proc/self'), reason='needs /proc')
def test_a_folder_that_holds_no_new_files():
    with pytest.raises(PermissionError, match=r'/proc/none/a\.py'):
        atomic_write_text('/proc/none/a.py', 'x')
