import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from asvit_mm.analysis import benchmark
from asvit_mm.analysis.benchmark import Setting, build_model, count_multiply_adds, run
from asvit_mm.arch import PRESETS, Architecture
from asvit_mm.cost import count_macs, count_params
from asvit_mm.errors import InputError

TOOLS = Path(__file__).parents[2] / 'tools'
TINY = '5,2,2,1|3,2,3,1|2,1,2,1|3,1,2,1|16,16'
DEEP = '5,2,4,8|3,2,4,4|2,1,4,2|3,1,4,1|16,32'


@pytest.mark.parametrize('preset', ['seed', 'small'])
def test_the_counter_sees_attention_and_counts_what_the_formula_counts(preset):
    model = build_model(preset).eval()
    counted = count_multiply_adds(model, torch.zeros(1, 3, 64, 64))
    assert counted == pytest.approx(count_macs(PRESETS[preset], 64, 1000), rel=0.005)


def test_swin_has_its_published_size():
    model = build_model('mmpretrain:swin-tiny_16xb64_in1k').eval()
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(28.29, abs=0.01)
    images = torch.zeros(1, 3, 224, 224)
    assert count_multiply_adds(model, images) / 1e9 == pytest.approx(4.5, rel=0.01)


def test_timings_of_plain_and_packed_models():
    setting = Setting(batch=2, size=(32, 48))
    timings = run([TINY, f'packed:{TINY}', 'timm:resnet18'], setting, rounds=3, warmup=1)
    assert [timing.name for timing in timings] == [TINY, f'packed:{TINY}', 'timm:resnet18']
    plain, packed, _ = timings
    assert plain.params == packed.params == count_params(Architecture.parse(TINY), 1000)
    assert plain.macs == packed.macs
    for timing in timings:
        assert timing.seconds > 0
        assert timing.images_per_second == pytest.approx(2 / timing.seconds)
        assert timing.ms_per_gmac == pytest.approx(timing.seconds * 1e12 / (2 * timing.macs))
        floor = timing.floor * 2 * timing.macs
        assert timing.share_of_matmul == pytest.approx(floor / timing.seconds)


def test_a_training_step_changes_the_weights():
    contestant = benchmark.Contestant(TINY, Setting('training', batch=2, size=(32, 32)))
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
    ('names', 'setting', 'said'),
    [
        (['tiny'], Setting(), 'neither a preset'),
        (['jax:x'], Setting(), 'no such source'),
        (['timm:no_such_model'], Setting(), 'no such model'),
        (['mmpretrain:no_such_model'], Setting(), 'no_such_model'),
        (['mmdet:no_such_model'], Setting(), 'no such config'),
        ([f'packed:{TINY}'], Setting('training'), 'float32 inference'),
        ([f'packed:{TINY}'], Setting(dtype='bfloat16'), 'float32 inference'),
        ([f'packed:{TINY}'], Setting(compile=True), 'float32 inference'),
    ],
)
def test_mistakes_in_one_line(names, setting, said):
    with pytest.raises(InputError, match=said):
        run(names, setting)


@pytest.mark.slow
def test_checkpointing_takes_less_memory_at_the_peak():
    code = (
        'from asvit_mm.analysis.benchmark import Setting, cpu_peak\n'
        "setting = Setting('training', batch=4, size=(128, 128), options=dict(with_cp={}))\n"
        f"print(cpu_peak('{DEEP}', setting))"
    )
    peaks = []
    for with_cp in (False, True):
        command = [sys.executable, '-c', code.format(with_cp)]
        environment = {**os.environ, **benchmark.RETURN_MEMORY}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] < 0.7 * peaks[0]


@pytest.mark.slow
def test_the_tool_writes_table_json_and_picture(tmp_path):
    arguments = [
        TINY,
        f'packed:{TINY}',
        '--size',
        '32',
        '32x48',
        '--batch-size',
        '2',
        '--rounds',
        '2',
    ]
    files = ['--json', tmp_path / 'b.json', '--plot', tmp_path / 'b.png', '--memory']
    command = [sys.executable, TOOLS / 'analysis_tools/benchmark.py', *arguments, *files]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 'ms/GMAC' in done.stdout
    assert '32x48' in done.stdout
    written = json.loads((tmp_path / 'b.json').read_text())
    assert len(written['timings']) == 4
    assert all(timing['memory'] > 2**16 for timing in written['timings'])
    assert (tmp_path / 'b.png').stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.parametrize('mode', ['inference', 'training'])
def test_every_lead_gives_the_same_outputs(mode):
    command = [
        sys.executable,
        TOOLS / 'analysis_tools/benchmark_leads.py',
        '8,2,3|4,1,2|4,1,4|4,1,6|32',
    ]
    options = ['--mode', mode, '--img-size', '64', '--batch-size', '2', '--rounds', '1']
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('%') >= 14
