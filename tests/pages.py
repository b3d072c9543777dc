"""README and docs as tests read them: their blocks of code, their commands, their links."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[1]
# Stands for a file of the user's: 'CONFIG.py'.
PLACEHOLDER = re.compile(r"'[A-Z]+\.(py|pth)'")
# What a block has that needs a package which is installed by hand: it runs where that is.
OPTIONAL = {
    'detectron2': 'detectron2',
    'mmseg': 'mmseg',
    'configs/dota/': 'mmrotate',
    'transformers import': 'transformers',
    'import openvino': 'openvino',
}
# A command that stands in a sentence: a tool and what it is given, not the tool's name alone.
INLINE = re.compile(r'(\w+=\S+ )*((python|torchrun) .*(\btools/|-m )|(bash )?tools/\w+\.sh \w)')


def blocks(page):
    """The fenced blocks of a page, in order: pairs of language and text."""
    return fenced(page.read_text(encoding='utf-8'))


def fenced(text):
    return re.findall(r'^```(\w*)\n(.*?)^```$', text, re.DOTALL | re.MULTILINE)


def code(page, language):
    """The text of a page's blocks of one language."""
    return [text for kind, text in blocks(page) if kind == language]


def commands(page):
    """The lines of a page's shell blocks, those that go on joined, and its indented commands."""
    return [
        ' '.join(line.split())
        for block in (
            *code(page, 'bash'),
            *re.findall(r'^ {4}(python .*)', prose(page), re.MULTILINE),
        )
        for line in block.replace('\\\n', '').splitlines()
    ]


def prose(page):
    """A page without its fenced blocks."""
    return re.sub(
        r'^```.*?^```$', '', page.read_text(encoding='utf-8'), flags=re.DOTALL | re.MULTILINE
    )


def inline_commands(page):
    """The commands that stand in a page's sentences."""
    spans = [' '.join(span.split()) for span in re.findall(r'`([^`]+)`', prose(page))]
    return [s for s in spans if re.match(INLINE, s)]


def check_command(command, monkeypatch):
    """Fail where the tool of a command would not understand it."""
    words = shlex.split(command)
    while re.fullmatch(r'[A-Z_]+=.*', words[0]):
        words.pop(0)
    if words[0] == 'torchrun':
        words = ['python', *words[1 + words[1].startswith('--nproc_per_node=') :]]
    if words[0] == 'bash':
        words.pop(0)
    for word in words:
        if word.startswith(('configs/', 'tools/', 'tests/')) and '*' not in word:
            assert (ROOT / word).exists(), f'{word} is not there'
    match words:
        case ['make', target]:
            assert f'\n{target}: install' in (ROOT / 'Makefile').read_text()
        case ['source', '.venv/bin/activate']:
            assert (ROOT / 'requirements/mminstall.txt').is_file()
        case ['pip', 'install', extras] if extras.startswith('.['):
            for extra in extras[2:-1].split(','):
                assert (ROOT / f'requirements/{extra}.txt').is_file()
        case ['pip', 'install', *_, source] if source.startswith('git+https://'):
            pass
        case ['python', script, *_] if script.startswith('../detectron2/tools/'):
            pass  # of another repository
        case ['python', '-m', 'pytest' | 'http.server', *_]:
            pass
        case ['pip', 'install', '.[mminstall]', 'transformers']:
            pass
        case ['mim', *_]:
            # test_mim runs that page's.
            assert command in commands(ROOT / 'docs/zoo.md')
        case ['python', '-m', module, *_]:
            assert module.startswith('asvit_mm.')
            assert importlib.util.find_spec(module)
        case ['tools/dist_train.sh' | 'tools/dist_test.sh' as script, *arguments]:
            position = 1 if 'train' in script else 2
            assert arguments.pop(position).isdecimal()
            _parse(f'tools/{script[11:-3]}.py', arguments, monkeypatch)
        case ['python', script, *arguments] if script.startswith('tools/'):
            _parse(script, arguments, monkeypatch)
        case _:
            pytest.fail(f'no tool of ours: {command}')


def _parse(script, arguments, monkeypatch):
    spec = importlib.util.spec_from_file_location('tool', ROOT / script)
    tool = importlib.util.module_from_spec(spec)
    # Where the settings of a tool are a class of its own, its source is looked up there.
    monkeypatch.setitem(sys.modules, 'tool', tool)
    spec.loader.exec_module(tool)
    monkeypatch.setattr(sys, 'argv', [script, *arguments])
    tool.parse_args()


def make_workplace(folder):
    """A folder in which commands run as they do in a clone, and write nothing into the clone."""
    for name in ('configs', 'tools'):
        (folder / name).symlink_to(ROOT / name)
    return folder


def run_script(text, folder, **environment):
    """Run shell text in a folder with the interpreter of the tests as ``python``; its process."""
    return subprocess.run(
        ['bash', '-euxo', 'pipefail', '-c', text],
        cwd=folder,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            'OMP_NUM_THREADS': '1',
            'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
            **environment,
        },
    )


def write_python(page, folder):
    """Write a page's Python blocks as scripts; of one with a placeholder, what it imports. Their names.

    Blocks that need an optional package which is not installed are left out.
    """
    names = []
    for number, text in enumerate(code(page, 'python')):
        needed = {package for mark, package in OPTIONAL.items() if mark in text}
        if any(importlib.util.find_spec(package) is None for package in needed):
            continue
        if PLACEHOLDER.search(text):
            text = ''.join(line for line in text.splitlines(True) if re.match('import|from', line))
        names.append(f'block{number}.py')
        (folder / names[-1]).write_text(text)
    return names


def broken_links(page):
    """The links of a Markdown or HTML file to files of the repository that are not there."""
    pattern = r'\]\(([^)]+)\)' if page.suffix == '.md' else r'href="([^"]+)"'
    text = prose(page) if page.suffix == '.md' else page.read_text(encoding='utf-8')
    links = [link for link in map(unescape, re.findall(pattern, text)) if '://' not in link]
    files = [unquote(link.partition('#')[0]) for link in links]
    return [file for file in files if file and not (page.parent / file).exists()]
