import json

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from asvit_mm.analysis import benchmark
from asvit_mm.analysis.benchmark import (
    Contestant,
    Setting,
    build_model,
    peak_memory,
    time_models,
)
from asvit_mm.analysis.flops import count_multiply_adds
from asvit_mm.analysis.settings import (
    BenchmarkSettings,
    CostSettings,
    FormatSettings,
    TokenizationSettings,
)
from asvit_mm.arch import PRESETS, Architecture
from asvit_mm.cost import count_macs, count_params
from asvit_mm.errors import InputError

TINY = '5,2,2,1|3,2,3,1|2,1,2,1|3,1,2,1|16,16'
DEEP = '5,2,4,8|3,2,4,4|2,1,4,2|3,1,4,1|16,32'
TOOL = 'analysis_tools/benchmark.py'


def test_the_counter_sees_attention_and_counts_what_the_formula_counts():
    model = build_model('small').eval()
    counted = count_multiply_adds(model, torch.zeros(1, 3, 64, 64))
    assert counted == pytest.approx(count_macs(PRESETS['small'], 64, 1000), rel=0.005)


def test_swin_has_its_published_size():
    model = build_model('mmpretrain:swin-tiny_16xb64_in1k').eval().to('meta')
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(28.29, abs=0.01)
    images = torch.zeros(1, 3, 224, 224, device='meta')
    assert count_multiply_adds(model, images) / 1e9 == pytest.approx(4.5, rel=0.01)


def test_timings():
    setting = Setting(batch=2, size=(32, 48))
    names = [TINY, 'timm:test_resnet']
    timings = time_models([(name, setting) for name in names], rounds=3, warmup=1)
    assert [timing['name'] for timing in timings] == names
    assert timings[0]['params'] == count_params(Architecture.parse(TINY), 1000)
    for timing in timings:
        seconds = timing['seconds']
        assert seconds > 0
        assert timing['spread'] >= 0
        assert timing['images_per_second'] == pytest.approx(2 / seconds)
        assert timing['ms_per_gmac'] == pytest.approx(seconds * 1e12 / (2 * timing['macs']))
        assert timing['floor_ms_per_gmac'] > 0
        assert timing['memory'] is None


def test_a_training_step_changes_the_weights():
    contestant = Contestant(TINY, Setting('training', batch=2, size=(32, 32)), warmup=0)
    parameters = list(contestant.model.parameters())
    before = [parameter.detach().clone() for parameter in parameters]
    contestant.call()
    changed = [not torch.equal(a, b) for a, b in zip(before, parameters, strict=True)]
    assert all(changed)


def test_options_reach_our_backbone():
    model = build_model(TINY, dict(with_cp=True, window_size=[4, 4, 2, 2]))
    assert model.backbone.stages[0].with_cp
    assert model.backbone.stages[2].window_size == 2


@pytest.mark.parametrize(
    ('name', 'said'),
    [
        ('tiny', 'neither a preset'),
        ('jax:x', 'no such source'),
        ('timm:no_such_model', 'no such model'),
        ('mmpretrain:no_such_model', 'no_such_model'),
        ('mmdet:no_such_model', 'no such config'),
    ],
)
def test_unknown_models(name, said):
    with pytest.raises(InputError, match=said):
        build_model(name)


@pytest.mark.parametrize(
    ('kind', 'field', 'said'),
    [
        (BenchmarkSettings, {'batch_size': 0}, '--batch-size 0 is too small'),
        (BenchmarkSettings, {'size': ('224x',)}, "--size '224x' is not pixels"),
        (BenchmarkSettings, {'plot': '.'}, "--plot '.' cannot be written"),
        (BenchmarkSettings, {'json': '.'}, "--json '.' cannot be written"),
        (TokenizationSettings, {'json': '.'}, "--json '.' cannot be written"),
        (FormatSettings, {'json': '.'}, "--json '.' cannot be written"),
        (CostSettings, {'config': 'x', 'json': '.'}, "--json '.' cannot be written"),
    ],
)
def test_bad_settings_are_refused_before_the_work(kind, field, said):
    with pytest.raises(InputError, match=said):
        kind(**field)


def test_peak_memory():
    # Two matrices of 4 MiB are there at once, of three that are made.
    matrix = torch.ones(1024, 1024)
    peak = peak_memory(lambda: ((matrix + 1) @ matrix).exp_() + 1, 'cpu')
    assert peak == pytest.approx(2 * 4 * 2**20, rel=0.01)
    peaks = [
        peak_memory(Contestant(DEEP, setting, warmup=1).call, 'cpu')
        for options in ({}, {'with_cp': True})
        for setting in (Setting('training', batch=4, size=(64, 64), options=options),)
    ]
    assert 2**16 < peaks[1] < 0.7 * peaks[0]


@pytest.mark.slow
def test_the_tool_writes_table_json_and_picture(here):
    arguments = [TINY, '--size', '32', '32x48', '--batch-size', '2', '--rounds', '2']
    arguments += ['--memory']
    out = here.run(TOOL, *arguments, '--json', 'b.json', '--plot', 'b.png')
    assert 'ms/GMAC' in out
    assert '32x48' in out
    assert 'MiB/image' in out
    timings = json.loads((here.folder / 'b.json').read_text())['timings']
    assert [timing['size'] for timing in timings] == [[32, 32], [32, 48]]
    assert all(timing['memory'] > 0 for timing in timings)
    assert (here.folder / 'b.png').stat().st_size > 1000


@pytest.mark.slow
def test_eager_and_compiled_in_one_table(here):
    """Of a tiny network: compiling ours takes a minute and more."""
    tiny = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.ReLU())
    here.monkeypatch.setattr(benchmark, 'build_model', lambda name, options: tiny)
    arguments = ['tiny', '--compile', 'no', 'yes', '--size', '32', '--rounds', '1']
    counters.clear()
    out = here.run(TOOL, *arguments, '--batch-size', '1', '--json', 'b.json')
    assert counters['stats']['unique_graphs'] == 1
    assert 'tiny (compiled)' in out
    eager, compiled = json.loads((here.folder / 'b.json').read_text())['timings']
    assert eager['macs'] == compiled['macs']
    assert eager['floor_ms_per_gmac'] == compiled['floor_ms_per_gmac']
