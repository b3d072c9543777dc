"""Reports of a short real run and of recorded ones: complete, self-contained, the same each time."""

import runpy
import shlex
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from asvit_mm.arch import PRESETS
from asvit_mm.data.source import describe_data
from asvit_mm.report.report import write_scale_report, write_search_report

from .test_plots import KAPPA, RUNS, recorded

ROOT = Path(__file__).parents[2]
TINY = ['--img-size', '16', '--batch-size', '2', '--repeat', '1', '--device', 'cpu']
ODD = """a <b>&"c" 'd'"""
NASTY = """p <script>alert('1')<"{{ 7 * 7 }}" {% if %}\nq"""
SEARCH = ['summary', 'architecture', 'search', 'cost', 'train', 'run']
WHOLE = [*SEARCH[:3], 'front', *SEARCH[3:]]
SCALE = ['summary', 'targets', 'architecture', 'growth', 'family', 'cost', 'train', 'run']
# Attributes that make a browser load something.
LOADING = {'src', 'srcset', 'href', 'data', 'poster', 'action', 'background', 'style'}


class Page:
    """What a page holds: its text in one line, its links, its commands as words."""

    def __init__(self, path):
        self.source = path.read_text(encoding='utf-8')
        self.root = ElementTree.fromstring(self.source)
        self.text = ' '.join(' '.join(self.root.itertext()).split())
        self.links = [link.get('href') for link in self.root.iter('a')]
        self.commands = [shlex.split(block.text) for block in self.root.iter('pre')]


def check(folder, sections):
    """The page of a run, after what holds of every page."""
    page = Page(folder / 'report.html')
    assert [section.get('id') for section in page.root.iter('section')] == sections
    assert [link[1:] for link in page.links if link.startswith('#')] == sections
    elements = list(page.root.iter())
    assert not {'script', 'link', 'iframe', 'object', 'base'} & {e.tag for e in elements}
    assert 'url(' not in page.source
    loading = {(e.tag, name) for e in elements for name in LOADING & set(e.keys())}
    assert loading == {('a', 'href'), ('img', 'src')}
    pictures = [image.get('src') for image in page.root.iter('img')]
    assert all(picture.startswith('data:image/png;base64,iVBOR') for picture in pictures)
    files = {link for link in page.links if not link.startswith(('#', 'https://'))}
    assert all((folder / name).exists() for name in files)
    assert {'result.json', 'trace.jsonl', 'run.json', 'timing.jsonl', 'configs/'} <= files
    shown = {name for name in files if name.endswith('.png')}
    assert {path.name for path in folder.glob('*.png')} == shown
    assert len(pictures) == len(shown)
    return page


def copy(task, folder):
    """The documented run without the report and what comes with it; its records and result."""
    shutil.copytree(RUNS / task, folder)
    main = {'search': 'search.png', 'scale': 'scaling.png'}[task]
    for path in folder.glob('*.*'):
        if path.suffix in ('.png', '.html') and path.name != main:
            path.unlink()
    return recorded(task)


def run(monkeypatch, tool, *words):
    """Run a tool within this process."""
    monkeypatch.setattr(sys, 'argv', [tool, *words])
    runpy.run_path(str(ROOT / tool), run_name='__main__')


@pytest.mark.slow
def test_search_and_the_command_that_repeats_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i in range(2):
        Path(NASTY, f'class{i}').mkdir(parents=True)
        pixels = np.random.default_rng(i).bytes(16 * 16 * 3)
        Image.frombytes('RGB', (16, 16), pixels).save(Path(NASTY, f'class{i}', '1.png'))
    run(monkeypatch, 'tools/search.py', '--work-dir', ODD, '--data', NASTY, '--steps', '2',
        '--max-params', '3M', '--progressive', *TINY)  # fmt: skip
    page = check(Path(ODD), WHOLE)
    assert 'Only networks of at most 3.00 M parameters were considered' in page.text
    assert 'What the policy learned' in page.text
    train, grow, again = page.commands
    assert train[:2] == ['python', 'tools/train.py']
    # Scaling measures as the search did.
    assert grow[:3] == ['python', 'tools/scale.py', f'{ODD}/result.json']
    given = ['--seed', '0', '--progressive', '--race-minutes', '20.0', *TINY[2:]]
    assert sorted(grow[3:]) == sorted(given)
    assert 'Of the limits it uses' in page.text
    assert 'of 3,000,000 parameters: ' in page.text
    first = Path(ODD).rename('first')
    run(monkeypatch, *again[1:])
    for name in ('run.json', 'trace.jsonl', 'result.json', 'report.html', 'policy.png'):
        assert Path(ODD, name).read_bytes() == (first / name).read_bytes()


def test_networks_without_measures_are_not_called_measured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    records, result = copy('search', Path(ODD))
    # The first two are too slow, the third has one measure that is not finite.
    for record in records:
        record['latency_ms'] = 1.0
    records[0].update({'length_distortion': None, KAPPA: None, 'latency_ms': 9.0})
    records[1].update(records[0], step=1)
    records[2][KAPPA] = None
    result['settings'].update(max_latency=5.0, method='mine', data=NASTY)
    write_search_report(ODD, result, records[:6], describe_data('noise', 32))
    page = check(Path(ODD), SEARCH)
    assert ' '.join(NASTY.split()) in page.text
    assert NASTY in page.commands[-1]
    assert 'Search method: mine.' in page.text
    assert 'What the policy learned' not in page.text
    assert '(1 were too slow and only timed)' in page.text
    assert 'Not shown: 2 networks that exceeded the latency limit and were only timed.' in page.text
    assert 'Not shown: 1 measurement without both values.' in page.text
    assert 'Of the 3 other measured networks' in page.text
    assert 'Only networks of at most 5 ms per image were considered.' in page.text


@pytest.mark.parametrize('targets', [True, False])
def test_scaling(tmp_path, monkeypatch, targets):
    monkeypatch.chdir(tmp_path)
    records, result = copy('scale', Path(ODD))
    if not targets:
        del result['targets']
        result['settings'].update(targets=None, min_params=10, max_params=20)
    write_scale_report(ODD, result, records, describe_data('noise', 224))
    page = check(Path(ODD), SCALE if targets else [name for name in SCALE if name != 'targets'])
    assert f'{result["series"][-1]["params"]:,} parameters' in page.text
    for member in [*result['series'], *result.get('targets', [])]:
        assert member['arch'] in page.text
        assert member['config'] in page.links
    assert f'As-ViT-Large (published) {PRESETS["large"]}' in page.text
    words = page.commands[-1]
    assert words[:3] == ['python', 'tools/scale.py', result['topology']]
    budget = '--targets 29000000 52600000 88100000 110000000' if targets else '--min-params 10'
    assert budget in ' '.join(words)
    assert ('--targets' in words) != ('--max-params' in words)
