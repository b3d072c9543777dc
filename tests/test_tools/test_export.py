"""tools/model_converters/export.py run as users do."""

import subprocess
import sys

import onnxruntime
import pytest
import torch

from asvit_mm.engine.models import build_model, load_model_config

from ..test_configs import ROOT
from .runs import TOOLS

DIGITS = ROOT / 'configs/digits/asvit-seed_b64-progressive_digits.py'
MAPS = ['--cfg-options', 'model.backbone.out_indices=(0,3)']
TOOL = 'model_converters/export.py'


@pytest.mark.slow
@torch.no_grad()
def test_a_classifier_with_its_weights(here):
    model = build_model(load_model_config(str(DIGITS)), str(DIGITS))
    model.head.layers.head.bias.add_(torch.arange(10.0))
    torch.save({'state_dict': model.state_dict()}, 'digits.pth')
    out = here.run(TOOL, DIGITS, 'digits.pth', '--size', 40, 36, '--out', 'digits.onnx')
    x = torch.randn(5, 3, 40, 36, generator=torch.Generator().manual_seed(0))
    (logits,) = onnxruntime.InferenceSession('digits.onnx').run(None, {'images': x.numpy()})
    assert (torch.from_numpy(logits) - model(x)).abs().max() < 1e-5
    assert 'images (batch, 3, 40, 36) float32: RGB, (pixel - mean) / std with mean 77.9' in out
    assert 'onnxruntime' in out.splitlines()[-1]
    assert 'batch 1, 40x36' in out.splitlines()[-1]


def test_features_of_one_side_in_torchs_format(here):
    arguments = ['--format', 'torch', '--output', 'features', '--size', '24', '--batch-size', '2']
    out = here.run(TOOL, DIGITS, *arguments, *MAPS)
    assert 'note: no CHECKPOINT' in out
    program = torch.export.load(f'{DIGITS.stem}_features.pt2').module()
    shapes = [tuple(one.shape) for one in program(torch.zeros(3, 3, 24, 24))]
    assert shapes == [(3, 32, 6, 6), (3, 256, 1, 1)]
    assert 'stage1 (batch, 32, 6, 6), stage4 (batch, 256, 1, 1) at 24x24' in out
    assert 'batch 2, 24x24' in out


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['lost.py'], "config 'lost.py' does not exist"),
        ([DIGITS, 'lost.pth'], "checkpoint 'lost.pth' does not exist"),
        ([DIGITS, '--size', '1', '2', '3'], '--size'),
        ([DIGITS, '--tolerance', '0'], '--tolerance'),
        ([DIGITS, '--out', 'model.pt'], '--format onnx is written to *.onnx'),
        ([DIGITS, '--dynamic-size', '--size', '50'], 'multiples of 32'),
        ([DIGITS, '--cfg-options', 'model'], 'KEY=VALUE'),
    ],
)
def test_refusals(here, args, words):
    assert words in here.refusal(TOOL, *args)
    assert list(here.folder.iterdir()) == []


def test_its_help_needs_no_torch():
    code = (
        'import runpy, sys\n'
        f'sys.argv = [{TOOL!r}, "--help"]\n'
        'try:\n'
        f'    runpy.run_path({str(TOOLS / TOOL)!r}, run_name="__main__")\n'
        'finally:\n'
        '    print("torch" in sys.modules)\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0
    assert '--dynamic-size' in done.stdout
    assert done.stdout.endswith('False\n')
