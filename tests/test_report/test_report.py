"""Reports of short real runs and of recorded ones: complete, self-contained, the same each time."""

import json
import runpy
import shlex
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from asvit_mm.data.source import describe_data
from asvit_mm.report.report import write_search_report

from .test_plots import KAPPA, RUNS, recorded

ROOT = Path(__file__).parents[2]
TINY = ['--img-size', '16', '--batch-size', '2', '--repeat', '1', '--device', 'cpu']
ODD = """a <b>&"c" 'd'"""
NASTY = """p <script>alert('1')<"{{ 7 * 7 }}" {% if %}\nq"""
# Attributes that make a browser load something, and elements without an end.
LOADING = {'src', 'srcset', 'href', 'data', 'poster', 'action', 'background', 'style'}
VOID = {'meta', 'img', 'br', 'link', 'hr', 'input', 'base', 'source'}


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
    def words(self):
        """The text of the page in one line."""
        return ' '.join(' '.join(self.text).split())

    def command(self, task):
        """The words of the command that the page says made the run."""
        start = f'python tools/{task}.py'
        return [shlex.split(text) for text in self.text if text.startswith(start)][-1]


def check(folder, sections):
    """The page of a run, after what holds of every page."""
    page = Page(folder / 'report.html')
    assert page.ids == sections
    assert not {'script', 'link', 'iframe', 'object', 'base'} & set(page.tags)
    assert 'url(' not in (folder / 'report.html').read_text()
    pictures = [value for tag, name, value in page.references if (tag, name) == ('img', 'src')]
    links = [value for tag, name, value in page.references if (tag, name) == ('a', 'href')]
    assert len(pictures) + len(links) == len(page.references)
    assert all(value.startswith('data:image/png;base64,iVBOR') for value in pictures)
    assert [value[1:] for value in links if value.startswith('#')] == sections
    files = [value for value in links if not value.startswith(('#', 'https://'))]
    assert all((folder / name).exists() for name in files)
    assert {'result.json', 'trace.jsonl', 'run.json', 'timing.jsonl', 'configs/'} <= set(files)
    shown = {name for name in files if name.endswith('.png')}
    assert {path.name for path in folder.glob('*.png')} == shown
    assert len(pictures) == len(shown)
    return page


def run(monkeypatch, folder, *words):
    """Run a tool in ``folder`` within this process."""
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    script = ROOT / words[0]
    monkeypatch.setattr(sys, 'argv', [str(script), *words[1:]])
    runpy.run_path(str(script), run_name='__main__')


SEARCH = ['summary', 'architecture', 'search', 'cost', 'train', 'run']


def test_search_in_an_odd_folder_and_the_command_that_repeats_it(tmp_path, monkeypatch):
    first, second = tmp_path / '1', tmp_path / '2'
    run(monkeypatch, first, 'tools/search.py', '--work-dir', ODD, '--data', 'digits', '--steps', '3',
        '--max-params', '3M', '--progressive', *TINY)  # fmt: skip
    page = check(first / ODD, SEARCH)
    result = json.loads((first / ODD / 'result.json').read_text())
    assert result['arch'] in page.text
    assert f'{result["params"]:,} parameters' in page.words
    assert 'What the policy learned' in page.text
    assert 'Only networks of at most 3.00 M parameters were considered' in page.words
    assert 'only timed' not in page.words
    # Scaling measures as the search did.
    grow = ['python', 'tools/scale.py', f'{ODD}/result.json', '--data', 'digits', '--seed', '0',
            '--progressive', *TINY]  # fmt: skip
    assert page.command('scale')[:3] == grow[:3]
    assert sorted(page.command('scale')) == sorted(grow)
    run(monkeypatch, second, *page.command('search')[1:])
    for name in ('run.json', 'trace.jsonl', 'result.json', 'report.html', 'policy.png'):
        assert (second / ODD / name).read_bytes() == (first / ODD / name).read_bytes()


def test_scaling(tmp_path, monkeypatch):
    run(monkeypatch, tmp_path, 'tools/scale.py', 'seed', '--work-dir', 'run', '--data', 'digits',
        '--targets', '2.1M', '2.4M', *TINY)  # fmt: skip
    sections = ['summary', 'targets', 'architecture', 'growth', 'family', 'cost', 'train', 'run']
    page = check(tmp_path / 'run', sections)
    result = json.loads((tmp_path / 'run' / 'result.json').read_text())
    for member in [*result['series'], *result['targets']]:
        assert member['arch'] in page.text
        assert ('a', 'href', member['config']) in page.references
    assert 'As-ViT-Large (published)' in page.text
    words = page.command('scale')
    assert words[2] == '8,2,3|4,1,2|4,1,4|4,1,6|32'
    assert words[-3:] == ['--targets', '2100000', '2400000']


def test_text_from_outside_is_never_html(tmp_path, monkeypatch):
    for i in range(2):
        folder = tmp_path / NASTY / f'class{i}'
        folder.mkdir(parents=True)
        pixels = np.random.default_rng(i).bytes(16 * 16 * 3)
        Image.frombytes('RGB', (16, 16), pixels).save(folder / '1.png')
    run(monkeypatch, tmp_path, 'tools/search.py', '--work-dir', 'run', '--data', NASTY, '--steps', '1',
        '--method', 'random', *TINY)  # fmt: skip
    page = check(tmp_path / 'run', SEARCH)
    assert 'What the policy learned' not in page.text
    assert NASTY in page.text
    assert page.command('search')[5] == NASTY


def test_networks_without_measures_are_not_called_measured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    records, result = recorded('search')
    # The first two too slow, the third measured, with one value that is not finite.
    for i, record in enumerate(records):
        record['latency_ms'] = 9.0 if i < 2 else 1.0
    for record, names in ((records[0], [KAPPA, 'length_distortion']), (records[2], [KAPPA])):
        record.update(dict.fromkeys(names), bad='any text', invalid={})
    records[1].update(records[0], step=1)
    result['settings'].update(max_latency=5.0, method='mine')
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'search.png').write_bytes((RUNS / 'search' / 'search.png').read_bytes())
    path = write_search_report('run', result, records[:6], describe_data('noise', 32))
    words = Page(path).words
    assert '(1 were too slow and only timed)' in words
    assert 'Not shown: 2 networks that exceeded the latency limit and were only timed.' in words
    assert 'Not shown: 1 measurement without both values.' in words
    assert 'Of the 3 other measured networks' in words
    assert 'Only networks of at most 5 ms per image were considered.' in words
    assert 'Search method: mine.' in words
