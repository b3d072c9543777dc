"""docs/doors.md: every door's lines, as a new user copies them, and what they print."""

import os
import re
import sys
from importlib.util import find_spec

import pytest

from .pages import OPTIONAL, ROOT, fenced, make_workplace, run_script

PAGE = ROOT / 'docs/doors.md'
SECTIONS = re.split(r'^## (.+)\n', PAGE.read_text(encoding='utf-8'), flags=re.MULTILINE)[1:]
FOLDERS, *DOORS = [(title, fenced(text)) for title, text in zip(*[iter(SECTIONS)] * 2, strict=True)]


def is_there(code):
    needed = [package for mark, package in OPTIONAL.items() if mark in code]
    if 'transformers' in needed:
        return 'ASVIT_MM_TRANSFORMERS' in os.environ
    return all(map(find_spec, needed))


def lines(text):
    return [line for line in text.splitlines() if line.strip()]


@pytest.fixture(scope='module')
def clone(tmp_path_factory):
    """A clone in which the folders of the first section are written."""
    folder = make_workplace(tmp_path_factory.mktemp('clone'))
    (folder / 'docs').symlink_to(ROOT / 'docs')
    done = run(FOLDERS[1][0][1], folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def run(code, folder):
    """What a block prints; transformers, which mmpretrain does not go together with, has its own place."""
    (folder / 'block.py').write_text(code)
    extra = [os.environ['ASVIT_MM_TRANSFORMERS']] if 'transformers' in code else []
    return run_script('python block.py', folder, PYTHONPATH=os.pathsep.join([*sys.path, *extra]))


@pytest.mark.parametrize(('door', 'parts'), DOORS, ids=[door for door, _ in DOORS])
def test_ten_lines_at_most(door, parts):
    """From pip to the prediction, the two that write the folder included."""
    (kind, install), (language, code), (output, _), *_ = parts
    assert (kind, language, output) == ('bash', 'python', 'text')
    assert lines(install)[0].startswith("pip install '.[mminstall")
    written = 2 if re.search(r"\b(digits|scenes)['/]", code) else 0
    assert written + len(lines(install)) + len(lines(code)) <= 10


@pytest.mark.slow
@pytest.mark.parametrize(('door', 'parts'), DOORS, ids=[door for door, _ in DOORS])
def test_the_lines_print_what_stands_below_them(door, parts, clone):
    for i, (kind, text) in enumerate(parts):
        if kind == 'bash' and i == 0:
            commands = [line for line in lines(text) if not line.startswith('pip ')]
            done = run_script('\n'.join(commands), clone)
            assert done.returncode == 0, done.stderr[-3000:]
        elif kind == 'python':
            if not is_there(text):
                pytest.skip(f'{door} is not installed')
            done = run(text, clone)
            assert done.returncode == 0, done.stderr[-3000:]
            for _, below in (part for part in parts[i + 1 : i + 2] if part[0] == 'text'):
                assert done.stdout.endswith(below)
