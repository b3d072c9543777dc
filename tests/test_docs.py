"""The docs: the site builds and no link of it is broken, every command and every Python block is checked.

Guides are run as they stand, in order; the FAQ's commands must give the lines that it prints; all other pages
hold measured runs, whose arguments the tools must understand, and Python that runs.
"""

import re
import shlex
import socket
import subprocess
import sys
from html.parser import HTMLParser
from importlib.abc import MetaPathFinder
from string import Template
from urllib.parse import unquote, urlsplit

import pytest

from asvit_mm.errors import InputError

from .pages import (
    ROOT,
    blocks,
    broken_links,
    check_command,
    code,
    commands,
    inline_commands,
    make_workplace,
    run_script,
    write_python,
)
from .test_tools.runs import Here, forked

DOCS = ROOT / 'docs'
PAGES = sorted([*DOCS.glob('*.md'), *DOCS.glob('guides/*.md')])
GUIDES = [p for p in PAGES if p.parent.name == 'guides' or p.stem in ('get_started', 'extend')]
FAQ = DOCS / 'faq.md'
REFERENCE = [page for page in PAGES if page not in GUIDES and page != FAQ]
# test_doors runs those of its page, which need what its commands write.
PYTHON = [ROOT / 'README.md', *(page for page in REFERENCE if page.stem != 'doors')]
# What a guide's test does not run: what installs.
INSTALLING = (
    'make demo',
    'source .venv/bin/activate',
    "pip install '.[mminstall]'",
)


def name(page):
    return str(page.relative_to(DOCS))


# ---- What is typed


def test_every_block_is_of_a_kind_that_a_test_reads():
    kinds = {kind for page in PAGES for kind, _ in blocks(page)}
    assert kinds == {'bash', 'python', 'text'}
    for page in PAGES:  # nothing that the pattern of blocks does not see
        assert page.read_text().count('```') == 2 * len(blocks(page)), page


CHECKED = {
    *(line for page in (*REFERENCE, *DOCS.glob('studies/**/*.md')) for line in commands(page)),
    *(line for page in ROOT.glob('configs/*/README.md') for line in commands(page)),
    *(line for page in PAGES for line in inline_commands(page)),
    *INSTALLING,
}


@pytest.mark.parametrize('command', sorted(CHECKED))
def test_tools_understand_the_commands(command, monkeypatch):
    check_command(command, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize('page', [p for p in PYTHON if code(p, 'python')])
def test_python_of_a_page_runs(page, tmp_path):
    """The blocks of a page that are no guide, each for itself, in one process."""
    folder = make_workplace(tmp_path)
    names = write_python(page, folder)
    script = (
        f'import runpy\nfor name in {names}:\n    print(name, flush=True)\n    runpy.run_path(name)'
    )
    (folder / 'blocks.py').write_text(script)
    status, output = forked(['blocks.py'], folder)
    assert status == 0, output[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize('page', GUIDES, ids=name)
def test_guides_run_as_they_stand(page, tmp_path):
    """Commands that begin with ``python`` in a process that has the libraries imported, others in a shell."""
    folder, variables, lines = make_workplace(tmp_path), {}, []
    for number, (kind, text) in enumerate(blocks(page)):
        if kind == 'bash':
            text = text.replace('\\\n', '')
            lines += [line for line in text.splitlines() if line not in INSTALLING]
        elif kind == 'python':
            (folder / f'block{number}.py').write_text(text)
            lines.append(f'python block{number}.py')
    assert lines
    for line in lines:
        words = shlex.split(Template(line).safe_substitute(variables))
        if words[0] == 'python':
            status, output = forked(words[1:], folder)
        else:
            name, _, value = line.partition('=$')
            text = f'echo {line.removeprefix(name + "=")}' if value else line
            done = run_script(text, folder, PORT=str(free_port()))
            status, output = done.returncode, done.stdout + done.stderr
            if value:
                variables[name] = done.stdout.strip()
        assert status == 0, f'{line}\n{output[-3000:]}'


def free_port():
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return free.getsockname()[1]


# ---- Every tool is run


TESTS = '\n'.join(p.read_text() for p in sorted((ROOT / 'tests').glob('test_*/test_*.py')))


@pytest.mark.parametrize('tool', sorted((ROOT / 'tools').rglob('*.*')), ids=lambda path: path.name)
def test_every_tool_is_run_by_a_guide_or_a_test(tool):
    name = tool.relative_to(ROOT / 'tools').as_posix()
    if tool.suffix == '.py' and name != 'misc/install.py':
        guided = any(f'tools/{name}' in line for page in GUIDES for line in commands(page))
        assert guided or f"'{name}'" in TESTS, f'no guide and no test runs {name}'


def test_what_a_page_says_is_refused(here):
    command = 'python tools/search.py --max-params 1M --work-dir work_dirs/small'
    assert command in {line for page in PAGES for line in (*commands(page), *inline_commands(page))}
    line = here.refusal('search.py', *shlex.split(command)[2:])
    assert 'give at least 1,300,712' in line


# ---- The FAQ's errors


def questions():
    """Heading, kind of the example, example and the line that it gives, of each question."""
    found = []
    for part in re.split(r'^### ', FAQ.read_text(), flags=re.MULTILINE)[1:]:
        title = part.splitlines()[0]
        pairs = re.findall(r'```(bash|python)\n(.*?)```\s+```text\n(.*?)\n```', part, re.DOTALL)
        assert pairs, title
        found += [(title, *pair) for pair in pairs]
    return found


QUESTIONS = questions()


def test_every_block_of_the_faq_belongs_to_an_error():
    assert len(blocks(FAQ)) == 2 * len(QUESTIONS)


class NoOperators(MetaPathFinder):
    """Python's import machinery as it is where mmcv was built without its operators."""

    @staticmethod
    def find_spec(fullname, path=None, target=None):
        if fullname == 'mmcv._ext':
            raise ModuleNotFoundError(f'No module named {fullname!r}', name=fullname)


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    for variable in ('RANK', 'LOCAL_RANK'):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    return Here(monkeypatch, capsys, make_workplace(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(
    ('title', 'kind', 'example', 'line'), QUESTIONS, ids=[q[0] for q in QUESTIONS]
)
def test_the_faq_prints_what_users_see(title, kind, example, line, here, monkeypatch):
    if title == 'mmcv without its operators':
        monkeypatch.delitem(sys.modules, 'mmcv._ext', raising=False)
        monkeypatch.setattr(sys, 'meta_path', [NoOperators, *sys.meta_path])
    if kind == 'python':
        with pytest.raises(InputError) as refused:
            exec(compile(example, title, 'exec'), {})
        assert f'{InputError.__module__}.InputError: {refused.value}' == line
        return
    *before, last = map(shlex.split, example.splitlines())
    for words in before:
        if words[1].startswith('tools/'):
            here.run(words[1].removeprefix('tools/'), *words[2:])
        else:
            assert run_script(shlex.join(words), here.folder).returncode == 0
    assert last[0] == 'python'
    with pytest.raises(SystemExit) as exit_:
        here.run(last[1].removeprefix('tools/'), *last[2:])
    printed = here.capsys.readouterr().err.strip().splitlines()
    assert exit_.value.code == 2
    assert printed[-1] == line
    assert sum(text.startswith('error: ') for text in printed) == 1


# ---- The site


LINKING = sorted([*DOCS.glob('**/*.md'), *DOCS.glob('**/*.html')])


@pytest.mark.parametrize('page', LINKING, ids=name)
def test_links_lead_somewhere_in_the_repository(page):
    assert broken_links(page) == []


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """The built site, which is built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp('site')
    command = [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


class Built(HTMLParser):
    """The links, fetched files and anchors of a built page."""

    def __init__(self, page):
        super().__init__()
        self.links, self.fetched, self.anchors = [], [], set()
        self.feed(page.read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.anchors |= {given[key] for key in ('id', 'name') if given.get(key)}
        for key in ('href', 'src', 'poster', 'data'):
            if given.get(key):
                (self.links if tag == 'a' else self.fetched).append(given[key])


@pytest.fixture(scope='module')
def built(site):
    # 404.html is for servers alone, which decide where it is shown.
    return {page: Built(page) for page in sorted(site.rglob('*.html')) if page.name != '404.html'}


@pytest.mark.slow
def test_no_link_of_the_site_is_broken(built, site):
    broken = []
    for page, content in built.items():
        for link in (*content.links, *content.fetched):
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            if target.is_dir():
                target /= 'index.html'
            anchors = {'', *(built[target].anchors if target in built else ())}
            there = target.is_file() and site in target.parents
            if not there or unquote(parts.fragment) not in anchors:
                broken.append((page.name, link))
    assert broken == []


@pytest.mark.slow
def test_every_page_is_there_and_what_it_links_to_outside_docs(built, site):
    for page in PAGES:
        assert site / name(page).replace('.md', '.html') in built
    assert (site / 'repository/configs/asvit_coco.py.html') in built


@pytest.mark.slow
def test_nothing_is_fetched_from_elsewhere(built, site):
    for page, content in built.items():
        addresses = [link for link in content.fetched if urlsplit(link).netloc]
        assert addresses == [], page
    for sheet in site.rglob('*.css'):
        assert not re.search(r'(url\(|@import)\s*["\']?(https?:)?//', sheet.read_text())


@pytest.mark.slow
def test_the_sites_markdown_is_read_as_the_repositorys(built, site):
    """Python-Markdown differs from GitHub's in these: lists after a line of text, pipes in a table's code."""
    for page in built:
        if site / 'runs' in page.parents:
            continue
        text = page.read_text(encoding='utf-8')
        assert not re.search(r'<p>[^<]*\n[-*] ', text), page
        assert not re.search(r'<td[^>]*>(?:(?!</td>).)*\\\|', text), page
