"""What README and docs tell people to type is understood by the tools, and README's Python runs."""

import importlib.util
import re
import shlex
import subprocess
import sys
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text()
PAGES = [README, *(path.read_text() for path in sorted((ROOT / 'docs').glob('*.md')))]


def shell(page):
    """The lines of a page's shell blocks."""
    blocks = re.findall(r'```bash\n(.*?)```', page, re.DOTALL)
    return [line for block in blocks for line in block.replace('\\\n', '').splitlines()]


SHELL = shell(README)
TOOLS = sorted(
    {
        re.sub(r'^(python|torchrun .*?) (?=tools/)', '', line)
        for page in PAGES
        for line in shell(page)
        if re.match(r'(python|torchrun .*?) tools/', line)
    }
)
PYTHON = re.findall(r'```python\n(.*?)```', README, re.DOTALL)


@pytest.mark.parametrize('command', TOOLS)
def test_tools_understand_the_arguments(command, monkeypatch):
    script, *arguments = shlex.split(command)
    spec = importlib.util.spec_from_file_location('tool', ROOT / script)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setattr(sys, 'argv', [script, *arguments])
    tool.parse_args()


def test_make_targets_and_scripts_exist():
    makefile = (ROOT / 'Makefile').read_text()
    targets = [line.split()[1] for line in SHELL if line.startswith('make ')]
    assert targets == ['demo', 'demo-detection', 'test']
    assert all(f'\n{target}: install' in makefile for target in targets)
    scripts = [line.split()[1] for line in SHELL if line.startswith(('bash ', 'python tools/'))]
    assert len(scripts) == 10
    assert all((ROOT / script).is_file() for script in scripts)


LINKING = [
    ROOT / 'README.md',
    *sorted(ROOT.glob('docs/**/*.md')),
    *sorted(ROOT.glob('docs/**/*.html')),
]


@pytest.mark.parametrize('page', LINKING, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    pattern = r'\]\(([^)]+)\)' if page.suffix == '.md' else r'href="([^"]+)"'
    links = [
        link
        for link in map(unescape, re.findall(pattern, page.read_text(encoding='utf-8')))
        if not link.startswith(('https://', '#'))
    ]
    assert links
    assert [link for link in links if not (page.parent / unquote(link)).exists()] == []


@pytest.mark.slow
@pytest.mark.parametrize('code', PYTHON, ids=range(len(PYTHON)))
def test_python_runs(code):
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
