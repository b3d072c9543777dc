import ctypes
import hashlib
import os
import subprocess
import sys
import warnings

import pytest

from asvit_mm.ops import native

ATTEND = """
import warnings, torch
from asvit_mm.ops.attention import attend, uses_kernel
x = torch.randn(1, 9, 3, 2, 4)
attend(x, 0.5), attend(x, 0.5)
print(uses_kernel(x))
"""


@pytest.fixture
def library(monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    for name in ('CXX', native.SWITCH):
        monkeypatch.delenv(name, raising=False)
    native.library.cache_clear()
    yield native.library
    native.library.cache_clear()


@pytest.fixture
def source(tmp_path):
    file = tmp_path / 'answer.cpp'
    file.write_text('extern "C" int answer() { return 42; }\n')
    return file


def test_compiled_once(library, source, tmp_path):
    functions = library(source)
    assert isinstance(functions, ctypes.CDLL)
    assert functions.answer() == 42
    assert (tmp_path / 'asvit_mm').stat().st_mode & 0o777 == 0o700
    (compiled,) = (tmp_path / 'asvit_mm').iterdir()
    written = compiled.stat().st_mtime_ns
    library.cache_clear()
    assert library(source).answer() == 42
    assert [f.stat().st_mtime_ns for f in (tmp_path / 'asvit_mm').iterdir()] == [written]


def test_another_header_is_another_file(library, source, tmp_path):
    header = tmp_path / 'answer.h'
    source.write_text('#include "answer.h"\nextern "C" int answer() { return ANSWER; }\n')
    for i, answer in enumerate((42, 43), start=1):
        header.write_text(f'#define ANSWER {answer}\n')
        library.cache_clear()
        assert library(source).answer() == answer
        assert len(list((tmp_path / 'asvit_mm').iterdir())) == i


def test_switched_off(library, source, monkeypatch):
    monkeypatch.setenv(native.SWITCH, '0')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert library(source) is None


@pytest.mark.parametrize(
    ('compiler', 'reason'),
    [
        ('no-such-compiler', 'compiled by no-such-compiler .*No such file or directory'),
        ('false', r'compiled by false \(.*non-zero exit status 1'),
        ("c++ -DX='1", 'No closing quotation'),
    ],
)
def test_no_compiler(library, source, monkeypatch, compiler, reason, tmp_path):
    monkeypatch.setenv('CXX', compiler)
    with pytest.warns(RuntimeWarning, match=f'answer runs through torch alone.*{reason}'):
        assert library(source) is None
    assert not list(tmp_path.glob('asvit_mm/*'))


def test_what_the_compiler_says_is_passed_on(library, source):
    source.write_text('not C++\n')
    with pytest.warns(RuntimeWarning, match=r'compiled by c\+\+ \(.*error: .*not.*\); install'):
        assert library(source) is None


def test_a_compiler_with_arguments(library, source, monkeypatch):
    source.write_text('extern "C" int answer() { return ANSWER; }\n')
    monkeypatch.setenv('CXX', 'c++ -DANSWER=41')
    assert library(source).answer() == 41


def test_a_cache_that_cannot_be_written(library, source, monkeypatch, tmp_path):
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    assert library(source).answer() == 42


def test_nobody_has_a_home(library, source, monkeypatch):
    def home():
        raise RuntimeError('Could not determine home directory.')

    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setattr(native.Path, 'home', home)
    assert library(source).answer() == 42


def test_a_library_that_was_cut_off_is_made_anew(library, source, tmp_path):
    """Loading it would end the process, depending on where it ends."""
    assert library(source).answer() == 42
    (compiled,) = (tmp_path / 'asvit_mm').iterdir()
    content = compiled.read_bytes()
    for size in (0, 20, len(content) // 10, len(content) // 2, len(content) - 1):
        compiled.unlink()  # the file in use stays as it is
        compiled.write_bytes(content[:size])
        library.cache_clear()
        assert library(source).answer() == 42
        assert compiled.read_bytes() == content


def test_what_cannot_be_loaded_is_made_anew(library, source, tmp_path):
    assert library(source).answer() == 42
    (compiled,) = (tmp_path / 'asvit_mm').iterdir()
    compiled.unlink()
    other = b'of a machine with other libraries'
    compiled.write_bytes(other + hashlib.sha256(other).digest())
    library.cache_clear()
    assert library(source).answer() == 42
    assert [f.name for f in (tmp_path / 'asvit_mm').iterdir()] == [compiled.name]


def test_nothing_is_loaded_from_a_folder_that_others_can_write(library, source, tmp_path):
    folder = tmp_path / 'asvit_mm'
    folder.mkdir()
    folder.chmod(0o777)
    assert library(source).answer() == 42
    assert not list(folder.iterdir())


def test_a_file_of_somebody_elses_is_not_loaded(library, source, tmp_path, monkeypatch):
    assert library(source).answer() == 42
    (compiled,) = (tmp_path / 'asvit_mm').iterdir()
    assert native._is_whole(compiled)
    compiled.chmod(0o620)
    assert not native._is_whole(compiled)
    compiled.chmod(0o600)
    assert native._is_whole(compiled)
    monkeypatch.setattr(os, 'getuid', lambda: compiled.stat().st_uid + 1)
    assert not native._is_whole(compiled)


def environment(cache, **settings):
    kept = {k: v for k, v in os.environ.items() if k not in ('CXX', native.SWITCH)}
    return {**kept, 'XDG_CACHE_HOME': str(cache), **settings}


@pytest.mark.slow
def test_attention_without_a_compiler(tmp_path):
    """In a process of its own: one warning, and torch's kernel."""
    done = subprocess.run(
        [sys.executable, '-c', ATTEND],
        env=environment(tmp_path, CXX='no-such-compiler'),
        capture_output=True,
        text=True,
    )
    assert done.stdout == 'False\n'
    assert done.stderr.count('attention runs through torch alone') == 1


@pytest.mark.slow
def test_processes_that_compile_at_the_same_time(source, tmp_path):
    code = (
        'from pathlib import Path\nfrom asvit_mm.ops.native import library\n'
        f'print(library(Path({str(source)!r})).answer())'
    )
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', code],
            env=environment(tmp_path),
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    assert [process.communicate()[0] for process in processes] == ['42\n', '42\n']
    assert len(list((tmp_path / 'asvit_mm').iterdir())) == 1
