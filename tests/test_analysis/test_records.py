import json
from dataclasses import replace

import pytest

from asvit_mm.analysis.records import StudyFolder, markdown_table, mean_and_std, study_command
from asvit_mm.analysis.settings import CorrelateSettings, SeedPercentileSettings
from asvit_mm.engine.distributed import Share
from asvit_mm.errors import InputError

RECORD = {'format': 2, 'index': 1, 'arch': 'b'}


def make(settings, archs='ab', **more):
    return StudyFolder(settings, Share(), [{'arch': arch} for arch in archs], **more)


@pytest.fixture
def settings(tmp_path):
    return CorrelateSettings(work_dir=str(tmp_path / 'study'), epochs=3, device='cpu')


@pytest.fixture
def folder(settings):
    folder = make(settings)
    folder.open()
    folder.record(1).parent.mkdir()
    folder.record(1).write_text(json.dumps({**RECORD, 'trained': {'top1': 3.0}}))
    return folder


def test_goes_on_with_what_is_there(folder, settings, capsys):
    again = make(replace(settings, resume=True))
    again.open()
    assert 'resumed: 1 of 2 architectures are done' in capsys.readouterr().out
    measured = []

    def measure(index):
        measured.append(index)
        return {'trained': {'top1': 4.0}}

    records = again.complete(measure, str)
    assert measured == [0]
    assert [record['trained']['top1'] for record in records] == [4, 3]
    assert records[0] == {'format': 2, 'index': 0, 'arch': 'a', 'trained': {'top1': 4.0}}
    assert again.complete(measure, str) == records
    assert measured == [0]


def test_resuming_nothing_begins(settings):
    folder = make(replace(settings, resume=True))
    folder.open()
    assert folder.file.is_file()
    assert folder.done() == []


def test_overwrite_removes_what_is_a_studys_only(folder, settings):
    (folder.path / 'report.md').write_text('old')
    (folder.path / 'mine.txt').write_text('mine')
    make(replace(settings, overwrite=True)).open()
    assert sorted(p.name for p in folder.path.iterdir()) == ['mine.txt', 'study.json']


def test_is_not_replaced_unasked(folder, settings):
    with pytest.raises(InputError, match='give --resume'):
        make(settings).open()
    with pytest.raises(InputError, match='give one'):
        make(replace(settings, resume=True, overwrite=True)).open()
    assert folder.done() == [1]


@pytest.mark.parametrize(
    ('change', 'archs', 'words'),
    [
        ({'epochs': 4}, 'ab', 'settings.epochs is 3 there and 4 here'),
        ({'measures': ('params',)}, 'ab', "settings.measures is ['all'] there and ['params']"),
        ({}, 'ac', "architectures.1.arch is 'b' there"),
        ({}, 'a', "architectures.1.arch is 'b' there and None"),
    ],
)
def test_another_study_is_not_gone_on_with(folder, settings, change, archs, words):
    with pytest.raises(InputError) as error:
        make(replace(settings, resume=True, **change), archs).open()
    assert words in str(error.value)


def test_a_study_of_other_versions_is_not_gone_on_with(folder, settings):
    folder.study['versions']['torch'] = '3'
    folder.file.write_text(json.dumps(folder.study))
    with pytest.raises(InputError, match=r"versions\.torch is '3' there and "):
        make(replace(settings, resume=True)).open()


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('{"format": 2, ', 'cannot be read'),
        ('[]', 'holds a list'),
        ('{}', 'has format = None'),
        (json.dumps({**RECORD, 'format': 1}), 'has format = 1 and this study 2'),
        (json.dumps({**RECORD, 'arch': 'c'}), "has arch = 'c' and this study 'b'"),
    ],
)
def test_a_foreign_record(folder, settings, text, words):
    folder.record(1).write_text(text)
    with pytest.raises(InputError, match='remove it and give --resume') as error:
        make(replace(settings, resume=True)).open()
    assert words in str(error.value)
    assert '001.json' in str(error.value)


def test_a_foreign_study(folder, settings):
    folder.file.write_text('{')
    with pytest.raises(InputError, match='another --work-dir'):
        make(replace(settings, resume=True)).open()


def test_a_folder_that_cannot_be_made(settings, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match='cannot be written'):
        make(replace(settings, work_dir=str(tmp_path / 'file' / 'study'))).open()


def test_architectures_are_added_and_stay(settings):
    folder = make(settings, 'abc', fixed=2)
    folder.open()
    folder.add(['d', 'b', 'd'])
    again = make(replace(settings, resume=True), 'abed', fixed=2)
    again.open()
    assert [one['arch'] for one in again.architectures] == ['a', 'b', 'c', 'd', 'e']
    assert json.loads(again.file.read_text()) == again.study


def test_the_fixed_architectures_do_not_change(settings):
    folder = make(settings, 'abc', fixed=2)
    folder.open()
    before, resuming = folder.file.read_bytes(), replace(settings, resume=True)
    with pytest.raises(InputError, match=r"architectures\.1\.arch is 'b' there and 'x' here"):
        make(resuming, 'ax', fixed=2).open()
    assert folder.file.read_bytes() == before
    folder.file.write_text(json.dumps({**folder.study, 'architectures': 'none'}))
    with pytest.raises(InputError, match='of another study'):
        make(resuming, fixed=2).open()


def test_command():
    settings = SeedPercentileSettings(
        archs=('seed', 'x=4,2,2|2,1,2'), num_archs=4, seed=2, resume=True, launcher='pytorch'
    )
    words = "seed 'x=4,2,2|2,1,2' --seed 2 --num-archs 4"
    assert study_command(settings) == f'python tools/analysis_tools/seed_percentiles.py {words}'


def test_text():
    assert markdown_table(['a', 'b'], [['x|y', '1']]).splitlines() == [
        '| a | b |', '| --- | ---: |', '| x\\|y | 1 |',
    ]  # fmt: skip
    assert mean_and_std(1.25, 0.5, '+.1f') == '+1.2 ± 0.5'
    assert mean_and_std(1.25, None) == '1.2'
