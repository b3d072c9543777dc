"""tools/analysis_tools/measure.py as users run it: table, JSON file, and the lines of its refusals."""

import json
import runpy
import sys

import pytest
import torch
from PIL import Image

from asvit_mm.arch import PRESETS, as_architecture
from asvit_mm.cost import count_macs, count_params
from asvit_mm.data.images import load_images
from asvit_mm.measures import MEASURES, measure
from asvit_mm.utils.units import format_count

from .runs import TINY, TOOLS, tool

OTHER = '4,4,2|2,2,3|2,2,2|2,1,3|16'
MINE = 'import torch\ndef net():\n    return torch.nn.Conv2d(3, 4, 8, 8)\n'
SCALED = '5,2,2,1|3,2,3,2|2,1,2,1|3,1,2,1|16,16'


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A folder with the scores of every measure in scores.json, and the process."""
    folder = tmp_path_factory.mktemp('measure')
    args = ('--measures', 'all', '--json', 'out/scores.json', *TINY, '--repeat', 2)
    done = tool('analysis_tools/measure.py', 'seed', SCALED, *args, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_json(finished):
    folder, _ = finished
    result = json.loads((folder / 'out' / 'scores.json').read_text())
    assert list(result['measures']) == list(MEASURES)
    assert result['measures']['ntk_condition_number']['higher_is_better'] is False
    assert result['settings']['measures'] == list(MEASURES)
    assert result['settings']['img_size'] == 32
    assert result['versions']['torch'] == torch.__version__
    names = [record['name'] for record in result['architectures']]
    assert names == ['seed', SCALED]
    assert [record['arch'] for record in result['architectures']] == [str(PRESETS['seed']), SCALED]
    images = load_images('photographs', 32, 8, 0).reshape(2, 4, 3, 32, 32)
    for record in result['architectures']:
        arch = as_architecture(record['arch'])
        expected = measure(arch, images, names=MEASURES, img_size=32, repeat=2)
        for name, found in record['scores'].items():
            assert set(found) == {'value', 'std', 'valid', 'reason', 'seconds'}
            assert found['valid'] is True
            assert found['value'] == pytest.approx(expected[name].value, rel=1e-4)
            assert found['seconds'] >= 0
        assert record['scores']['params']['value'] == count_params(arch, abs_pos_embed=False)
        assert record['scores']['flops']['value'] == count_macs(arch, 32)


def test_table(finished):
    _, done = finished
    assert done.stdout.rstrip().endswith('written: out/scores.json')
    assert '↓' in done.stdout
    assert 'mean ± std of 2 networks' in done.stdout
    rows = [line for line in done.stdout.splitlines() if line.startswith('│ seed')]
    assert len(rows) == 1
    # The costs are the same for all networks, and so is the entropy of a single token.
    assert rows[0].count('±') == len(MEASURES) - 3


def test_default_measures(here):
    out = here.run('analysis_tools/measure.py', 'seed', OTHER, *TINY)
    for title in ('length distortion ↑', 'NTK condition number ↓', 'parameters ↑', 'FLOPs'):
        assert title in out
    assert 'synflow' not in out
    assert '±' not in out
    assert not list(here.folder.iterdir())


def test_one_network_has_no_deviation_in_json(here):
    here.run('analysis_tools/measure.py', 'seed', '--json', 'a.json', *TINY)
    text = (here.folder / 'a.json').read_text()
    assert 'NaN' not in text
    scores = json.loads(text)['architectures'][0]['scores']
    assert [found['std'] for found in scores.values()] == [None] * 4


def test_costs_need_no_images(here):
    here.folder.joinpath('images').mkdir()
    Image.new('RGB', (32, 32)).save(here.folder / 'images' / 'one.png')
    args = ('large', '--measures', 'params', 'flops', '--data', 'images', '--device', 'cpu')
    out = here.run('analysis_tools/measure.py', *args)
    params = count_params(PRESETS['large'], abs_pos_embed=False)
    macs = count_macs(PRESETS['large'])
    assert f' {format_count(params)} ' in out
    assert f' {format_count(macs)} ' in out


def test_double_precision_and_memory(here):
    names = ('extrinsic_curvature', 'gauss_map_length', 'synflow')
    values = []
    for args in ((), ('--dtype', 'float64'), ('--memory', '0.02')):
        here.run(
            'analysis_tools/measure.py',
            OTHER,
            '--measures',
            *names,
            '--json',
            'a.json',
            *TINY,
            *args,
        )
        scores = json.loads((here.folder / 'a.json').read_text())['architectures'][0]['scores']
        values.append([found['value'] for found in scores.values()])
    for other in values[1:]:
        assert other == pytest.approx(values[0], rel=1e-3)


def test_bad_scores_are_listed_with_their_reason(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'same').mkdir()
    for i in range(4):
        Image.new('RGB', (32, 32), 'red').save(tmp_path / 'same' / f'{i}.png')
    run = ('analysis_tools/measure.py', 'seed', '--data', 'same', '--json', 'bad.json', *TINY)
    monkeypatch.setattr(sys, 'argv', [str(word) for word in run])
    runpy.run_path(str(TOOLS / run[0]), run_name='__main__')
    out, err = capsys.readouterr()
    assert 'bad: seed, ntk_condition_number: network 1 of 1: ' in out
    assert err.count('\n') == 1
    assert err.startswith('warning: images 0 and 1 of the batch of network 1 are identical')
    scores = json.loads((tmp_path / 'bad.json').read_text())['architectures'][0]['scores']
    found = scores['ntk_condition_number']
    assert (found['value'], found['std'], found['valid']) == (None, None, False)
    assert 'network 1' in found['reason']
    assert scores['length_distortion']['valid']


def test_models_of_others(here):
    (here.folder / 'mine.py').write_text(MINE)
    args = ('seed', 'mine:net', '--output', 'tokens', '--json', 'a.json', *TINY)
    assert '│ mine:net' in here.run('analysis_tools/measure.py', *args)
    ours, theirs = json.loads((here.folder / 'a.json').read_text())['architectures']
    assert (ours['arch'], theirs['arch']) == (str(PRESETS['seed']), 'mine:net')
    assert theirs['scores']['params']['value'] == 4 * 3 * 64 + 4
    assert theirs['scores']['flops']['value'] == 16 * 4 * 3 * 64
    assert all(score['valid'] for score in theirs['scores'].values())


def test_list(here):
    out = here.run('analysis_tools/measure.py', '--list')
    assert all(name in out for name in MEASURES)
    assert out.count('lower') == 1
    assert '2203.12217' in out


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        ([], 'no architecture to measure'),
        (['tiny'], "'tiny' is neither a preset"),
        (['9,2,3|4,1,2|4,1,4|4,1,6|32'], 'K1 (kernel) = 9 is not allowed'),
        (['seed', '--measures', 'accuracy'], "unknown measure 'accuracy': choose from length_"),
        (['seed', '--measures', 'params', 'seed'], "unknown measure 'seed'"),
        (['seed', '--measures', 'all', 'seed'], "unknown measure 'seed'"),
        (['seed', '--img-size', '2'], '--img-size 2 is too small'),
        (['seed', '--batch-size', '1'], '--batch-size 1 is too small'),
        (['seed', '--repeat', '0'], '--repeat 0 is too small'),
        (['seed', '--seed', '-1'], '--seed -1 is too small'),
        (['seed', '--memory', '0'], '--memory 0.0 is no limit'),
        (['seed', '--memory', 'nan'], '--memory nan is no limit'),
        (['nowhere:x'], "no function of Python (No module named 'nowhere')"),
        (['mine:net', '--memory', '1'], '--memory bounds architectures of this package'),
        (['seed', '--device', 'gpu'], "--device 'gpu' is no device"),
        (['seed', '--data', 'nowhere'], "no data at 'nowhere'"),
        (['seed', '--json', 'file/a.json'], "--json 'file/a.json' cannot be written"),
        (['seed', '--json', '.'], "--json '.' cannot be written"),
    ],
)
def test_refusals(here, args, words):
    (here.folder / 'file').write_text('')
    (here.folder / 'mine.py').write_text(MINE)
    assert words in here.refusal('analysis_tools/measure.py', *TINY, *args)
