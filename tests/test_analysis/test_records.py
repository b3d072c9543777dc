import json

import pytest

from asvit_mm.analysis import StudyFolder
from asvit_mm.errors import InputError

STUDY = {
    'settings': {'epochs': 3, 'measures': ('params', 'flops')},
    'versions': {'torch': '2'},
    'architectures': [{'arch': 'a'}, {'arch': 'b'}],
}


@pytest.fixture
def folder(tmp_path):
    folder = StudyFolder(str(tmp_path / 'study'), STUDY)
    folder.open()
    folder.write({'index': 1, 'arch': 'b', 'trained': {'top1': 3.0}})
    return folder


def test_goes_on_with_what_is_there(folder):
    again = StudyFolder(str(folder.path), STUDY)
    again.open(resume=True)
    assert again.done() == [1]
    assert again.read_all() == [{'format': 1, 'index': 1, 'arch': 'b', 'trained': {'top1': 3.0}}]


def test_resuming_nothing_begins(tmp_path):
    folder = StudyFolder(str(tmp_path / 'new'), STUDY)
    folder.open(resume=True)
    assert folder.settings.is_file()
    assert folder.done() == []


def test_overwrite_removes_what_is_a_studys_only(folder):
    (folder.path / 'report.md').write_text('old')
    (folder.path / 'mine.txt').write_text('mine')
    StudyFolder(str(folder.path), STUDY).open(overwrite=True)
    assert sorted(p.name for p in folder.path.iterdir()) == ['mine.txt', 'study.json']


def test_is_not_replaced_unasked(folder):
    with pytest.raises(InputError, match='give --resume'):
        StudyFolder(str(folder.path), STUDY).open()
    with pytest.raises(InputError, match='give one'):
        StudyFolder(str(folder.path), STUDY).open(resume=True, overwrite=True)
    assert folder.done() == [1]


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'settings': {**STUDY['settings'], 'epochs': 4}}, 'settings.epochs is 3 there and 4 here'),
        ({'settings': {**STUDY['settings'], 'measures': ['params']}}, "'flops'] there and"),
        ({'versions': {'torch': '3'}}, "versions.torch is '2' there and '3'"),
        ({'architectures': [{'arch': 'a'}, {'arch': 'c'}]}, "architectures.1.arch is 'b' there"),
        ({'architectures': [{'arch': 'a'}]}, "architectures.1.arch is 'b' there and None"),
    ],
)
def test_another_study_is_not_gone_on_with(folder, change, words):
    with pytest.raises(InputError) as error:
        StudyFolder(str(folder.path), {**STUDY, **change}).open(resume=True)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('{"format": 1, ', 'cannot be read'),
        ('[]', 'holds a list'),
        ('{}', 'has format = None'),
        (json.dumps({'format': 2, 'index': 1, 'arch': 'b'}), 'has format = 2 and this study 1'),
        (json.dumps({'format': 1, 'index': 1, 'arch': 'c'}), "has arch = 'c' and this study 'b'"),
    ],
)
def test_a_foreign_record(folder, text, words):
    folder.record(1).write_text(text)
    with pytest.raises(InputError, match='remove it and give --resume') as error:
        StudyFolder(str(folder.path), STUDY).open(resume=True)
    assert words in str(error.value)
    assert '001.json' in str(error.value)


def test_a_foreign_study(folder):
    folder.settings.write_text('{')
    with pytest.raises(InputError, match='another --work-dir'):
        StudyFolder(str(folder.path), STUDY).open(resume=True)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match='cannot be written'):
        StudyFolder(str(tmp_path / 'file' / 'study'), STUDY).open()


def growing(path, *archs):
    study = {**STUDY, 'architectures': [{'arch': arch} for arch in archs]}
    return StudyFolder(str(path), study, fixed=2)


def test_architectures_are_added_and_stay(tmp_path):
    folder = growing(tmp_path / 'study', 'a', 'b', 'c')
    folder.open()
    folder.write({'index': 2, 'arch': 'c'})
    folder.add(['d', 'b', 'd'])
    again = growing(folder.path, 'a', 'b', 'e', 'd')
    again.open(resume=True)
    assert [one['arch'] for one in again.study['architectures']] == ['a', 'b', 'c', 'd', 'e']
    assert again.done() == [2]
    other = growing(folder.path, 'a', 'b')
    other.join()
    assert other.study == again.study


def test_the_fixed_architectures_do_not_change(tmp_path):
    folder = growing(tmp_path / 'study', 'a', 'b', 'c')
    folder.open()
    before = folder.settings.read_bytes()
    with pytest.raises(InputError, match=r"architectures\.1\.arch is 'b' there and 'x' here"):
        growing(folder.path, 'a', 'x').open(resume=True)
    with pytest.raises(InputError, match=r"architectures\.0\.arch is 'a' there and 'b' here"):
        growing(folder.path, 'b', 'a').open(resume=True)
    assert folder.settings.read_bytes() == before
    folder.settings.write_text(json.dumps({**folder.study, 'architectures': 'none'}))
    with pytest.raises(InputError, match='of another study'):
        growing(folder.path, 'a', 'b').open(resume=True)
