"""Reports of real, short runs: whole, self-contained, the same each time."""

import json
import runpy
import shlex
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from asvit_mm.arch import PRESETS
from asvit_mm.nas import Clock
from asvit_mm.report.sections import run_command, scale_command
from asvit_mm.runs.folder import NAMES
from asvit_mm.runs.scale import run_scaling
from asvit_mm.runs.search import run_search
from asvit_mm.runs.settings import ScaleSettings, SearchSettings

TINY = {'data': 'digits', 'img_size': 16, 'batch_size': 4, 'repeat': 1, 'device': 'cpu'}
# Attributes that make a browser load something, and elements that do so without one.
LOADING = {'src', 'srcset', 'href', 'data', 'poster', 'action', 'background', 'style'}
VOID = {'meta', 'img', 'br', 'link', 'hr', 'input', 'base', 'source'}


def read_result(work_dir):
    return json.loads((Path(work_dir) / 'result.json').read_text())


class Page(HTMLParser):
    """What a page holds; fails where an element is not closed in its place."""

    def __init__(self, path):
        super().__init__()
        self.open, self.tags, self.ids, self.references, self.text = [], [], [], [], []
        self.feed(path.read_text(encoding='utf-8'))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == 'id':
                self.ids.append(value)
            if name in LOADING:
                self.references.append((tag, name, value))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    @property
    def all_text(self):
        return ' '.join(' '.join(self.text).split())


def check(folder, sections):
    """The page of a run, after what holds of every page."""
    page = Page(folder / 'report.html')
    assert page.ids == sections
    assert not {'script', 'link', 'iframe', 'object', 'base'} & set(page.tags)
    jumps, files, pictures = [], [], []
    for tag, name, value in page.references:
        assert (tag, name) in {('a', 'href'), ('img', 'src')}
        if tag == 'img':
            assert value.startswith('data:image/png;base64,iVBOR')
            pictures.append(value)
        elif value.startswith('#'):
            jumps.append(value[1:])
        else:
            files.append(value)
    assert jumps == sections
    # The run's result is written after its page, yet what a page names is there in the end.
    assert all((folder / name).exists() for name in files)
    assert {'result.json', 'trace.jsonl', 'run.json', 'timing.jsonl', 'configs/'} <= set(files)
    assert len(pictures) == len({name for name in files if name.endswith('.png')})
    assert {path.name for path in folder.iterdir()} <= {*NAMES, '.lock'}
    assert 'url(' not in (folder / 'report.html').read_text()
    return page


def arguments(page):
    """The words of the command that the page says made the run."""
    # After the command of what to do next, where there is one.
    return [shlex.split(text) for text in page.text if text.startswith('python tools/s')][-1]


SEARCH = ['summary', 'architecture', 'search', 'measured', 'cost', 'train', 'run']


@pytest.mark.parametrize('method', ['reinforce', 'random'])
def test_search(tmp_path, monkeypatch, method):
    monkeypatch.chdir(tmp_path)
    run_search(SearchSettings(work_dir='run', steps=4, method=method, **TINY))
    result = read_result('run')
    page = check(Path('run'), SEARCH)
    assert result['arch'] in page.text
    assert f'{result["params"]:,} parameters' in page.all_text
    assert (Path('run') / 'policy.png').exists() == (method == 'reinforce')
    assert ('What the search came to prefer' in page.text) == (method == 'reinforce')
    assert 'only timed' not in page.all_text
    grow = next(text for text in page.text if text.startswith('python tools/scale.py'))
    assert grow == (
        'python tools/scale.py run/result.json --data digits --img-size 16 --batch-size 4 --repeat 1 '
        '--seed 0 --device cpu'
    )


@pytest.fixture(scope='module')
def odd(tmp_path_factory):
    """A folder with a search in a work dir of an odd name."""
    folder = tmp_path_factory.mktemp('odd')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_search(SearchSettings(work_dir=ODD, steps=3, max_params='3M', **TINY))
    return folder


ODD = """a <b>&"c" 'd'"""


def test_an_odd_work_dir(odd):
    page = check(odd / ODD, SEARCH)
    assert 'b' not in page.tags[: page.tags.index('div')]
    commands = [text for text in page.text if text.startswith('python tools/')]
    assert len(commands) == 3
    for command in commands:
        assert [word for word in shlex.split(command) if word.startswith(ODD)]


def test_limits_are_told(odd):
    page = Page(odd / ODD / 'report.html')
    assert 'Only networks of at most 3.00 M parameters were considered' in page.all_text


def test_resumed_bytes(odd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = {'work_dir': ODD, 'steps': 3, 'max_params': '3M', **TINY}
    old, new = odd / ODD, tmp_path / ODD
    new.mkdir()
    for name in ('run.json', 'trace.jsonl', 'timing.jsonl'):
        text = (old / name).read_text()
        lines = text.splitlines(keepends=True)
        (new / name).write_text(text if name == 'run.json' else lines[0])
    run_search(SearchSettings(resume=True, **settings))
    pages = [path for path in NAMES if Path(path).suffix in ('.html', '.png')]
    assert [p for p in pages if (old / p).exists()] == [p for p in pages if (new / p).exists()]
    for name in pages:
        if (old / name).exists():
            assert (old / name).read_bytes() == (new / name).read_bytes()


def test_the_command_makes_the_same_run(odd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = arguments(Page(odd / ODD / 'report.html'))
    script = Path(__file__).parents[2] / words[1]
    monkeypatch.setattr(sys, 'argv', [str(script), *words[2:]])
    runpy.run_path(str(script), run_name='__main__')
    for name in ('run.json', 'trace.jsonl', 'result.json', 'report.html'):
        assert (tmp_path / ODD / name).read_bytes() == (odd / ODD / name).read_bytes()


@pytest.mark.parametrize('targets', [(), ('2.1M', '2.4M')])
def test_scaling(tmp_path, monkeypatch, targets):
    monkeypatch.chdir(tmp_path)
    budget = {'targets': targets} if targets else {'min_params': '2.1M', 'max_params': '2.5M'}
    settings = ScaleSettings(str(PRESETS['seed']), work_dir='run', **budget, **TINY)
    run_scaling(settings)
    result = read_result(settings.work_dir)
    sections = ['summary', 'architecture', 'path', 'measured', 'family', 'cost', 'train', 'run']
    page = check(Path('run'), sections[:1] + ['targets'] * bool(targets) + sections[1:])
    for member in [*result['series'], *result.get('targets', [])]:
        assert member['arch'] in page.text
        assert ('a', 'href', member['config']) in page.references
    assert 'As-ViT-Large (published)' in page.text
    words = arguments(page)
    assert ('--targets' in words) == bool(targets)
    assert ('--min-params' in words) != bool(targets)


def test_networks_that_were_only_timed_are_not_called_measured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Times that do not depend on the machine.
    monkeypatch.setattr(Clock, '__call__', lambda clock, arch: float(arch.kernels[0]))
    run_search(SearchSettings(work_dir='run', steps=5, max_latency=6.0, remeasure=True, **TINY))
    result = read_result('run')
    trace = [
        json.loads(line) for line in (tmp_path / 'run' / 'trace.jsonl').read_text().splitlines()
    ]
    slow = {record['arch'] for record in trace if record['latency_ms'] > 6}
    fast = {record['arch'] for record in trace} - slow
    assert len(slow) > 0
    assert len(fast) > 0
    assert result['measured_architectures'] == sum(r['arch'] in fast for r in trace)
    text = Page(Path('run/report.html')).all_text
    assert f'({len(slow)} were too slow and only timed)' in text
    times = sum(record['arch'] in slow for record in trace)
    assert f'Left out: {times} of networks that were too slow and only timed.' in text
    assert 'without both numbers' not in text


def test_scaling_measures_as_the_search_did():
    settings = {'data': 'my pets', 'img_size': 64, 'batch_size': 8, 'repeat': 2, 'progressive': True,
                'seed': 3, 'steps': 9, 'device': 'cpu', 'remeasure': False}  # fmt: skip
    assert scale_command('run', settings) == [
        'python', 'tools/scale.py', 'run/result.json', '--data', 'my pets', '--img-size', '64',
        '--batch-size', '8', '--repeat', '2', '--seed', '3', '--device', 'cpu', '--progressive',
    ]  # fmt: skip


def test_command_of_every_kind_of_setting():
    settings = {'data': 'my pets', 'progressive': True, 'remeasure': False, 'max_flops': None,
                'targets': [1, 2], 'min_params': None, 'max_params': None, 'arch': '1|2'}  # fmt: skip
    assert run_command('run', 'scale', json.loads(json.dumps(settings))) == [
        'python', 'tools/scale.py', '1|2', '--work-dir', 'run', '--data', 'my pets', '--progressive',
        '--targets', '1', '2',
    ]  # fmt: skip
