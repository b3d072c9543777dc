import json
import os

import pytest

from asvit_mm.utils.files import atomic_directory, atomic_file, atomic_write_json, atomic_write_text


def test_writes_the_text_and_nothing_else(tmp_path):
    path = tmp_path / 'new' / 'file.txt'
    assert atomic_write_text(path, 'one') == path
    atomic_write_text(path, 'two')
    assert path.read_text() == 'two'
    assert os.listdir(path.parent) == ['file.txt']
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / 'file.json'
    atomic_write_json(path, {'a': 1})
    with pytest.raises(ValueError, match='JSON compliant'):
        atomic_write_json(path, {'a': float('nan')})
    with pytest.raises(UnicodeEncodeError):
        atomic_write_text(path, '\ud800')
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
