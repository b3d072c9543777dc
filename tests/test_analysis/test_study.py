import json
import os
from dataclasses import replace

import pytest

from asvit_mm.analysis.settings import CorrelateSettings, SeedPercentileSettings
from asvit_mm.analysis.study import StudyFolder
from asvit_mm.analysis.tables import markdown_table, mean_and_std, print_table
from asvit_mm.engine.distributed import Share
from asvit_mm.errors import InputError

ITEMS = {'a|1': 1, 'b|2': 2}


def make(settings, **facts):
    return StudyFolder(settings, 'correlate', Share(), **facts)


@pytest.fixture
def settings(tmp_path):
    return CorrelateSettings(work_dir=str(tmp_path / 'study'), epochs=3, device='cpu')


@pytest.fixture
def folder(settings):
    """A study of which the second record is there."""
    folder = make(settings)
    folder.complete({'b|2': 2}, lambda name, item: {'top1': 3.0}, str)
    return folder


def test_goes_on_with_what_is_there(folder, settings, capsys):
    again, made = make(replace(settings, resume=True)), []

    def measure(name, item):
        made.append(name)
        return {'top1': item + 4.0}

    records = again.complete(ITEMS, measure, str)
    assert 'resumed: 1 of 2 are done' in capsys.readouterr().out
    assert made == ['a|1']
    assert records == [{'name': 'a|1', 'top1': 5}, {'name': 'b|2', 'top1': 3}]
    assert again.complete(ITEMS, measure, str) == records
    # What is added is made, and what is there stays.
    more = again.complete({**ITEMS, 'c|3': 3}, measure, str)
    assert made == ['a|1', 'c|3']
    assert more[:2] == records
    words = r'after 3 records; .*correlate\.py .* --resume'
    with pytest.raises(KeyboardInterrupt, match=words), again.resumable():
        raise KeyboardInterrupt


def test_two_processes_share_the_records(settings):
    folder = make(settings)
    folder.share = Share(1, 2)
    folder.wait = lambda: None
    made = []
    # Of the other process, which is none here.
    with pytest.raises(InputError, match='No such file'):
        folder.complete(ITEMS, lambda name, item: made.append(name) or {}, str)
    assert made == ['b|2']


def test_overwrite_removes_what_is_a_studys_only(folder, settings):
    (folder.path / 'report.md').write_text('old')
    (folder.path / 'mine.txt').write_text('mine')
    make(replace(settings, overwrite=True))
    assert sorted(p.name for p in folder.path.iterdir()) == ['mine.txt', 'study.json']


@pytest.mark.parametrize(
    ('change', 'facts', 'words'),
    [
        ({}, {}, 'exists already: give --resume'),
        ({'resume': True, 'overwrite': True}, {}, 'give one'),
        ({'resume': True, 'epochs': 4}, {}, 'settings.epochs is 3 there and 4 here'),
        ({'resume': True, 'measures': ('params',)}, {}, "is ['all'] there and ['params']"),
        ({'resume': True}, {'arch': 'a'}, "arch is None there and 'a' here"),
    ],
)
def test_another_study_is_neither_replaced_nor_gone_on_with(folder, settings, change, facts, words):
    before = (folder.path / 'study.json').read_bytes()
    with pytest.raises(InputError) as error:
        make(replace(settings, **change), **facts)
    assert words in str(error.value)
    assert (folder.path / 'study.json').read_bytes() == before


def test_files_that_cannot_be_used(folder, settings, tmp_path):
    resuming = replace(settings, resume=True)
    for text, words in (('{"name": ', 'cannot be read'), ('{"name": "c"}', "is of 'c', not 'b|2'")):
        folder.record('b|2').write_text(text)
        with pytest.raises(InputError, match='remove it and give --resume') as error:
            make(resuming).complete(ITEMS, None, str)
        assert words in str(error.value)
    folder.study['versions']['torch'] = '3'
    (folder.path / 'study.json').write_text(json.dumps(folder.study))
    with pytest.raises(InputError, match=r"versions\.torch is '3' there and "):
        make(resuming)
    (folder.path / 'study.json').write_text('{')
    with pytest.raises(InputError, match='another --work-dir'):
        make(resuming)
    with pytest.raises(InputError, match='cannot be written'):
        make(replace(settings, work_dir=str(folder.path / 'study.json' / 'study')))


def test_report(tmp_path, capsys):
    settings = SeedPercentileSettings(
        work_dir=str(tmp_path), archs=('seed', 'x=4|2'), num_archs=4, seed=2, device='cpu'
    )
    folder = StudyFolder(settings, 'seed_percentiles', Share())
    table = markdown_table([{'a': 'x|y', 'b': mean_and_std([1.0, 2.0])}])
    folder.write_report('{num_archs} of {data}: {command}\n{table}\n', {'table': table}, found=3)
    words = f"seed 'x=4|2' --seed 2 --device cpu --work-dir {tmp_path} --num-archs 4"
    assert (tmp_path / 'report.md').read_text() == (
        f'4 of photographs: python tools/analysis_tools/seed_percentiles.py {words}\n'
        '| a | b |\n| --- | ---: |\n| x\\|y | 1.5 ± 0.7 |\n'
    )
    assert json.loads((tmp_path / 'report.json').read_text()) == {'study': folder.study, 'found': 3}
    assert 'written: ' in capsys.readouterr().out


def test_tables(capsys):
    assert mean_and_std([1.25]) == '1.2'
    assert mean_and_std([1.0, 2.0], '+.2f') == '+1.50 ± 0.71'
    print_table(
        'Title', [{'name': 'a', 'figure': '1'}, {'name': 'b' * 60, 'figure': '2' * 60}], 150
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith('Title')
    assert 'b' * 60 in lines[-2]
    assert '2' * 60 in lines[-2]


def test_links_are_refused_and_what_they_point_to_stays(folder, settings, tmp_path):
    kept = tmp_path / 'kept'
    kept.mkdir()
    (kept / 'a.log').write_text('kept')
    places = {'logs': kept, 'records/a_1.json': kept / 'a.log', 'report.md': kept / 'a.log'}
    for place, target in places.items():
        (folder.path / place).symlink_to(target)
        for way in ({'resume': True}, {'overwrite': True}):
            with pytest.raises(InputError, match=f'{place} is a link'):
                make(replace(settings, **way))
        (folder.path / place).unlink()
    assert (kept / 'a.log').read_text() == 'kept'
    os.mkfifo(folder.path / 'records/a_1.json')
    with pytest.raises(InputError, match='is a FIFO'):
        make(replace(settings, resume=True))


@pytest.mark.parametrize(
    'text', ['{"name": "b|2", "top1": 99.0}', '{"name": "b|2"}', '[]', '{' * 2000, '\xff']
)
def test_a_record_that_was_changed_is_not_believed(folder, settings, text):
    folder.record('b|2').write_bytes(text.encode('latin-1'))
    with pytest.raises(InputError, match='remove it and give --resume: it is made again') as error:
        make(replace(settings, resume=True)).complete(ITEMS, lambda *_: {}, str)
    assert '\n' not in str(error.value)
