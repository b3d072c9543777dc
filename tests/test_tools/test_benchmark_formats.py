"""tools/analysis_tools/benchmark_formats.py run as users do."""

import json

import pytest

from asvit_mm.data.image_sets import DIGITS, write_image_set

from .runs import Here

TOOL = 'analysis_tools/benchmark_formats.py'
TRAINED = 'asvit-3.0m-10mf_b64-progressive_digits'


@pytest.fixture
def here(monkeypatch, capsys, tmp_path):
    return Here(monkeypatch, capsys, tmp_path)


@pytest.mark.slow
def test_files_of_a_model_side_by_side(here):
    write_image_set(DIGITS, 'data/digits')
    formats = ('onnx', 'onnx-int8')
    out = here.run(TOOL, TRAINED, '--formats', *formats, '--rounds', 2, '--json', 'found.json')
    found = json.loads((here.folder / 'found.json').read_text())
    assert [one['format'] for one in found['files']] == ['eager', *formats]
    eager, whole, eight = found['files']
    assert (eager['difference'], eager['bytes']) == (0, None)
    assert 0 < whole['difference'] < 1e-5 < eight['difference'] < 0.2
    assert 4 * 2_958_290 < whole['bytes'] < 13.5e6
    assert eight['bytes'] < 0.35 * whole['bytes']
    assert eager['top1'] == whole['top1'] == pytest.approx(100 * 359 / 360)
    assert eight['top1'] > 99
    table = [line for line in out.splitlines() if line.startswith('| ')]
    assert len(table) == 5
    assert f'| {TRAINED}, 32 | onnx-int8 | {eight["bytes"] / 1e6:.1f} |' in table[-1]


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['asvit-huge'], "the zoo has no 'asvit-huge'"),
        (['mask-rcnn_asvit-3.0m-10mf_fpn_12e_scenes'], 'is no classifier'),
        ([TRAINED, '--formats', 'onnx'], 'python -m asvit_mm.data.image_sets'),
    ],
)
def test_refusals(here, args, words):
    assert words in here.refusal(TOOL, *args)
