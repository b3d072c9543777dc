"""The folder of a run: killed anywhere it goes on to the same files; what it refuses."""

import json
import os
import resource
import shutil
from multiprocessing import get_context

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asvit_mm.errors import InputError
from asvit_mm.runs.folder import RunFolder

RUN = {'task': 'count', 'settings': {'steps': 6, 'words': ('a', 'b')}, 'versions': {'torch': '2'}}
STEPS = 6


def record(i):
    return {'step': i, 'value': 0.1 * i, 'text': 'a line of more than a few bytes é'}


def work(path, run=RUN, *, until=STEPS, **kwargs):
    """A run, stopped before step ``until``; returns how many records it took from the file."""
    with RunFolder(str(path), run, **kwargs) as folder:
        for i in range(until):
            folder.append(record(i))
        if until == STEPS:
            folder.write_configs({'a.py': 'a = 1\n'})
            folder.write_result({'found': 5})
        return len(folder.kept)


def files(path):
    """Content by name, without the times."""
    return {
        str(p.relative_to(path)): p.read_bytes()
        for p in path.rglob('*')
        if p.is_file() and p.name not in ('timing.jsonl', '.lock')
    }


@pytest.fixture
def whole(tmp_path):
    work(tmp_path / 'whole')
    return tmp_path / 'whole'


def test_an_undisturbed_run(whole):
    assert sorted(files(whole)) == ['configs/a.py', 'result.json', 'run.json', 'trace.jsonl']
    lines = (whole / 'trace.jsonl').read_text().splitlines()
    assert [json.loads(line) for line in lines] == [record(i) for i in range(STEPS)]
    run = json.loads((whole / 'run.json').read_text())
    assert run['format'] == 4
    assert run['settings'] == {'steps': 6, 'words': ['a', 'b']}
    assert json.loads((whole / 'result.json').read_text()) == {'found': 5, **run}


@given(st.data())
@settings(max_examples=20)
def test_killed_at_any_byte(tmp_path_factory, data):
    """Also more than once: every part goes on from the one before."""
    folder = tmp_path_factory.mktemp('killed')
    work(folder / 'whole')
    size = len((folder / 'whole' / 'trace.jsonl').read_bytes())
    cuts = sorted(data.draw(st.lists(st.integers(0, size), min_size=1, max_size=3)))
    broken = folder / 'broken'
    for i, cut in enumerate(cuts):
        work(broken, until=STEPS - 1 if cut < size else STEPS, resume=i > 0)
        for name in ('trace.jsonl', 'timing.jsonl'):
            (broken / name).write_bytes((broken / name).read_bytes()[:cut])
        shutil.rmtree(broken / 'configs', ignore_errors=True)
        (broken / 'result.json').unlink(missing_ok=True)
    kept = (broken / 'trace.jsonl').read_bytes().count(b'\n')
    assert work(broken, resume=True) == kept
    assert files(broken) == files(folder / 'whole')


@pytest.mark.parametrize('left', ['run.json', 'trace.jsonl', 'configs'])
def test_killed_between_two_files(whole, tmp_path, left):
    """The order of writing: everything after ``left`` is not there yet."""
    written = ['run.json', 'trace.jsonl', 'configs', 'result.json']
    for name in written[written.index(left) + 1 :]:
        path = whole / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (whole / '.configs.a1_b2c3d').mkdir()
    (whole / '.result.json.a1_b2c3d').write_text('{"fou')
    work(whole, resume=True)
    work(tmp_path / 'again')
    assert files(whole) == files(tmp_path / 'again')
    assert not (whole / '.configs.a1_b2c3d').exists()


def test_resuming_nothing_begins(tmp_path):
    with RunFolder(str(tmp_path / 'new'), RUN, resume=True) as folder:
        assert not folder.resumed
        assert (folder.kept, folder.replaying, folder.is_complete()) == ([], False, False)


def test_one_process_at_a_time(tmp_path):
    path = str(tmp_path / 'run')
    with RunFolder(path, RUN) as folder:
        folder.append(record(0))
        for way in ({'resume': True}, {'overwrite': True}, {}):
            with pytest.raises(InputError, match=r"another process is at work in '.*run'"):
                RunFolder(path, RUN, **way)
        folder.append(record(1))
    with pytest.raises(InputError, match='exists already'):
        RunFolder(path, RUN)
    # Neither the run that ended nor the one that was refused is in the way.
    with RunFolder(path, RUN, resume=True) as folder:
        assert len(folder.kept) == 2


def test_what_was_found_goes_when_more_is_done(tmp_path):
    with RunFolder(str(tmp_path), RUN) as folder:
        folder.append(record(0))
        folder.write_so_far({'found': 3})
    with RunFolder(str(tmp_path), RUN, resume=True) as folder:
        folder.append(record(0))
        assert folder.so_far.exists()
        folder.append(record(1))
        assert not folder.so_far.exists()


def test_what_a_kill_left_unfinished_goes_anyhow(tmp_path):
    for way in ({}, {'overwrite': True}, {'resume': True}):
        (tmp_path / '.run.json.a1_b2c3d').write_text('{"for')
        with RunFolder(str(tmp_path), RUN, **way):
            assert not (tmp_path / '.run.json.a1_b2c3d').exists()


def test_what_is_found_so_far_goes_when_the_run_is_complete(tmp_path, whole):
    path = tmp_path / 'run'
    with RunFolder(str(path), RUN) as folder:
        folder.append(record(0))
        folder.write_so_far({'found': 3})
    assert json.loads((path / 'so_far.json').read_text())['found'] == 3
    work(path, resume=True)
    assert files(path) == files(whole)


def test_a_complete_run_gives_its_result(whole):
    before = files(whole)
    with RunFolder(str(whole), RUN, resume=True) as folder:
        assert folder.is_complete()
        assert len(folder.records) == STEPS
    assert files(whole) == before


def test_times_of_all_parts_are_summed(tmp_path):
    work(tmp_path / 'run', until=2)
    (tmp_path / 'run' / 'timing.jsonl').write_text(
        '{"line": 1, "seconds": 20.5}\n{"line": 2, "seconds": 1.5}\n{"line"'
    )
    with RunFolder(str(tmp_path / 'run'), RUN, resume=True) as folder:
        for i in range(3):
            folder.append(record(i))
        assert 22 <= folder.seconds < 25
    times = [json.loads(line) for line in folder.timing.read_text().splitlines()]
    assert [time['line'] for time in times] == [1, 2, 3]


def test_the_attention_kernel_is_kept_and_not_compared(tmp_path):
    with RunFolder(str(tmp_path), {**RUN, 'attention_kernel': 'own'}) as folder:
        folder.append(record(0))
    other = {**RUN, 'attention_kernel': 'other'}
    with RunFolder(str(tmp_path), other, resume=True) as folder:
        assert folder.run['attention_kernel'] == 'own'
        folder.append(record(0))
        folder.write_result({})
        assert folder.is_complete()
    assert json.loads((tmp_path / 'result.json').read_text())['attention_kernel'] == 'own'


def test_the_first_parts_number_of_threads_goes_on(tmp_path):
    threads = torch.get_num_threads()
    work(tmp_path / 'run', until=1)
    try:
        torch.set_num_threads(threads + 1)
        with RunFolder(str(tmp_path / 'run'), RUN, resume=True):
            assert torch.get_num_threads() == threads
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'task': 'scale'}, "task is 'count' there and 'scale' here"),
        ({'settings': {**RUN['settings'], 'steps': 7}}, 'settings.steps is 6 there and 7 here'),
        ({'settings': {**RUN['settings'], 'words': ['a']}}, "['a', 'b'] there and ['a'] here"),
        ({'versions': {'torch': '3'}}, "versions.torch is '2' there and '3' here"),
    ],
)
def test_another_run_is_not_gone_on_with(whole, change, words):
    before = files(whole)
    with pytest.raises(InputError) as error:
        RunFolder(str(whole), {**RUN, **change}, resume=True)
    assert words in str(error.value)
    assert '\n' not in str(error.value)
    assert files(whole) == before


@pytest.mark.parametrize(
    ('name', 'text', 'words'),
    [
        ('run.json', '{"format": 2, "more": 1}', 'format is 2 there and 4 here'),
        ('run.json', '{"format": 4, "task"', 'cannot be read'),
        ('run.json', '[]', 'holds a list'),
        ('run.json', '{"threads": true}', 'format is None there'),
        ('trace.jsonl', 'step 1\n', 'line 1 of'),
        ('trace.jsonl', '{"step": 0}\n\n', 'line 2 of'),
        ('trace.jsonl', '3\n', 'holds a int'),
        ('timing.jsonl', 'fast\n', 'line 1 of'),
    ],
)
def test_a_foreign_file(whole, name, text, words):
    (whole / name).write_text(text)
    with pytest.raises(InputError, match='another --work-dir') as error:
        RunFolder(str(whole), RUN, resume=True)
    assert words in str(error.value)
    assert str(whole / name) in str(error.value)


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('{}', 'format is None there and 4 here'),
        ('{"found"', 'cannot be read'),
    ],
)
def test_a_foreign_result(whole, text, words):
    (whole / 'result.json').write_text(text)
    with (
        RunFolder(str(whole), RUN, resume=True) as folder,
        pytest.raises(InputError, match=words),
    ):
        folder.is_complete()


def test_a_trace_without_its_run(whole):
    (whole / 'run.json').unlink()
    before = files(whole)
    with pytest.raises(InputError, match=r'is there without a run\.json'):
        RunFolder(str(whole), RUN, resume=True)
    assert files(whole) == before


@pytest.mark.parametrize(
    ('old', 'new', 'words'),
    [
        ('"value": 0.2', '"value": 0.3', r'line 3 of .* \(value is 0\.3 there and 0\.2 here\)'),
        ('"value": 0.2', '"value":  0.2', 'line 3 of .*the text differs'),
        ('"step": 0', '"step": false', 'line 1 of .*the text differs'),
    ],
)
def test_an_altered_record(whole, old, new, words):
    (whole / 'result.json').unlink()
    trace = (whole / 'trace.jsonl').read_text()
    assert old in trace
    (whole / 'trace.jsonl').write_text(trace.replace(old, new))
    with pytest.raises(InputError, match=words):
        work(whole, resume=True)


def test_more_records_than_the_run_gives(whole):
    (whole / 'result.json').unlink()
    with (whole / 'trace.jsonl').open('a') as file:
        file.write('{"step": 6}\n')
    with pytest.raises(InputError, match='has 7 lines and this run gives 6'):
        work(whole, resume=True)


@pytest.mark.parametrize('name', ['run.json', 'trace.jsonl', 'configs', 'search.png'])
def test_anything_of_a_run_is_not_replaced_unasked(tmp_path, name):
    (tmp_path / name).write_text('')
    with pytest.raises(InputError, match=f'{name} exists already: give --resume') as error:
        RunFolder(str(tmp_path), RUN)
    assert '--overwrite' in str(error.value)


def test_overwrite_removes_what_is_a_runs_only(whole):
    (whole / 'mine.txt').write_text('mine')
    (whole / 'search.png').write_text('old')
    with RunFolder(str(whole), RUN, overwrite=True):
        assert set(files(whole)) == {'mine.txt', 'run.json', 'trace.jsonl'}


@pytest.mark.parametrize('way', [{'resume': True}, {'overwrite': True}, {}])
@pytest.mark.parametrize(
    'name', ['.lock', 'run.json', 'result.json', 'trace.jsonl', 'search.png', 'configs']
)
def test_links_are_refused_and_what_they_point_to_stays(whole, tmp_path, name, way):
    kept = tmp_path / 'kept'
    kept.mkdir()
    (kept / 'file').write_text('kept')
    path = whole / name
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.symlink_to(kept if name == 'configs' else kept / 'file')
    with pytest.raises(InputError, match=f'{name} is a link, which is neither read nor written'):
        RunFolder(str(whole), RUN, **way)
    assert [file.name for file in kept.iterdir()] == ['file']
    assert (kept / 'file').read_text() == 'kept'


@pytest.mark.parametrize('name', ['run.json', 'result.json', 'trace.jsonl', 'timing.jsonl'])
def test_special_files_and_folders_where_files_should_be(whole, name):
    (whole / name).unlink()
    os.mkfifo(whole / name)
    with pytest.raises(InputError, match=f'{name} is a FIFO'):
        RunFolder(str(whole), RUN, resume=True)
    (whole / name).unlink()
    (whole / name).mkdir()
    with pytest.raises(InputError, match=f'{name} is a folder and should be a file'):
        RunFolder(str(whole), RUN, resume=True)
    with RunFolder(str(whole), RUN, overwrite=True) as folder:
        assert not folder.resumed


def test_a_work_dir_may_be_a_link_itself(tmp_path):
    (tmp_path / 'disk').mkdir()
    (tmp_path / 'run').symlink_to(tmp_path / 'disk')
    assert work(tmp_path / 'run') == 0
    assert (tmp_path / 'disk/result.json').exists()


@pytest.mark.parametrize('depth', [60, 900, 100_000])
def test_json_nested_too_deep(whole, depth):
    for name, text in (
        ('run.json', '{"a":' * depth + '1' + '}' * depth),
        ('trace.jsonl', '{"a":' + '[' * depth + ']' * depth + '}\n'),
    ):
        before = (whole / name).read_bytes()
        (whole / name).write_text(text)
        with pytest.raises(InputError, match=r'nested|cannot be read'):
            RunFolder(str(whole), RUN, resume=True)
        (whole / name).write_bytes(before)


def test_an_altered_result_is_not_believed(whole):
    result = json.loads((whole / 'result.json').read_text())
    result['found'] = 'something else'
    (whole / 'result.json').write_text(json.dumps(result))
    with pytest.raises(InputError, match=r'is not what this run gives \(found is'):
        work(whole, resume=True)


def _limited(path, size):
    """A run in a process that can write no file of more than ``size`` bytes; 3 if it ends for that."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    try:
        work(path, resume=path.exists())
    except (OSError, InputError) as error:
        os._exit(3 if 'File too large' in str(error) else 1)
    os._exit(0)


def test_a_disk_that_is_full_at_any_byte(whole, tmp_path):
    """The processes have ever more room; the last one finds enough."""
    largest = max(path.stat().st_size for path in whole.rglob('*') if path.is_file())
    for first in range(0, largest - 20, 50):
        path = tmp_path / f'run{first}'
        for size in (first, first + 20):
            process = get_context('fork').Process(target=_limited, args=(path, size))
            process.start()
            process.join()
            assert process.exitcode == 3
        work(path, resume=True)
        assert files(path) == files(whole)
