"""Figures of recorded runs."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from asvit_mm.arch import PRESETS, SEARCH_SPACE
from asvit_mm.errors import InputError
from asvit_mm.report.figure import ORANGE, RED
from asvit_mm.report.plots import (
    plot_learning_curve,
    plot_measured,
    plot_policy,
    plot_scaling,
    plot_search,
    read_scalars,
)

RUNS = Path(__file__).parents[2] / 'docs' / 'runs'
KAPPA = 'ntk_condition_number'


def recorded(task):
    """The records and the result of the documented run."""
    lines = (RUNS / task / 'trace.jsonl').read_text().splitlines()
    result = json.loads((RUNS / task / 'result.json').read_text())
    return [json.loads(line) for line in lines], result


def is_picture(path):
    with Image.open(path) as image:
        colors = image.convert('RGB').getcolors(2**20)
        return image.format == 'PNG' and min(image.size) > 400 and len(colors) > 100


def has_color(path, color):
    """Whether more than a hundred pixels have the colour."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert('RGB'))
    wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return (pixels == wanted).all(-1).sum() > 100


def test_search(tmp_path):
    records, result = recorded('search')
    records = [{**r, KAPPA: None if i == 3 else r[KAPPA]} for i, r in enumerate(records[:30])]
    plot_search(records, tmp_path / 'a.png')
    assert is_picture(tmp_path / 'a.png')
    assert [path.name for path in tmp_path.iterdir()] == ['a.png']
    # A single network without a policy and without kappa.
    one = {name: records[3][name] for name in ('step', 'arch', 'length_distortion', KAPPA)}
    plot_search([one], tmp_path / 'b.png')
    assert is_picture(tmp_path / 'b.png')
    measured = tmp_path / 'c.png'
    plot_measured(records, result, measured)
    assert is_picture(measured)
    assert has_color(measured, RED)
    assert not has_color(measured, ORANGE)
    published = {**records[1], 'arch': str(PRESETS['seed'])}
    plot_measured([one, published], {**result, KAPPA: None}, measured)
    assert has_color(measured, ORANGE)
    assert not has_color(measured, RED)


def test_policy(tmp_path):
    sizes = [len(values) for values in SEARCH_SPACE.choices.values()]
    uniform = [[1 / size] * size for size in sizes]
    decided = [[1.0] + [0.0] * (size - 1) for size in sizes]
    first, second = tmp_path / 'a.png', tmp_path / 'b.png'
    plot_policy([uniform, decided], SEARCH_SPACE, first)
    plot_policy([uniform, uniform], SEARCH_SPACE, second)
    assert is_picture(first)
    assert first.read_bytes() != second.read_bytes()


def test_scaling(tmp_path):
    records, result = recorded('scale')
    series = result['series'][:4]
    path = tmp_path / 'a.png'
    plot_scaling(series, path)
    plain = path.read_bytes()
    assert not has_color(path, RED)
    series[0]['candidates'] = [r for r in records[:20] if 'candidate' in r]
    plot_scaling(series, path)
    assert path.read_bytes() != plain
    plot_scaling(series[:1], path, 10**6, 10**7)
    assert is_picture(path)
    assert has_color(path, RED)


def test_learning_curve(tmp_path):
    """Scalars as MMEngine's LocalVisBackend writes them, 23 iterations per epoch."""
    lines = []
    for epoch in range(1, 11):
        step = 23 * epoch - 3
        lines.append({'loss': 2 / epoch, 'lr': 1e-3, 'epoch': epoch, 'iter': step, 'step': step})
        lines.append({'accuracy/top1': 90.0 + epoch / 2, 'data_time': 0.1, 'step': epoch})
    path = tmp_path / 'scalars.json'
    path.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    losses, accuracies = read_scalars(path)
    assert losses[:, 1].tolist() == [2 / epoch for epoch in range(1, 11)]
    assert losses[-1, 0] == pytest.approx(10)
    assert accuracies.tolist() == [[epoch, 90 + epoch / 2] for epoch in range(1, 11)]
    phases = [{'end': 2, 'stride': 16}, {'end': 5, 'stride': 8}, {'end': 10, 'stride': 4}]
    plot_learning_curve(path, tmp_path / 'a.png', phases)
    assert is_picture(tmp_path / 'a.png')
    with pytest.raises(InputError, match='does not exist'):
        read_scalars(tmp_path / 'no.json')
    for text, words in (('{"x"', 'not made of JSON lines'), ('{"x": 1}\n', 'neither a loss nor')):
        path.write_text(text)
        with pytest.raises(InputError, match=words):
            read_scalars(path)
