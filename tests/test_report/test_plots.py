"""Pictures of real, short runs."""

import json

import pytest
from PIL import Image

from asvit_mm.errors import InputError
from asvit_mm.measures import Score
from asvit_mm.nas import AutoScaling, Budget, Measurement, Memo, Reinforce
from asvit_mm.report.plots import plot_learning_curve, plot_scaling, plot_search, read_scalars

from ..test_nas.test_scaling import SEED
from ..test_nas.toy import cost_measure, distance, measuring, records_of


def is_picture(path):
    with Image.open(path) as image:
        colors = image.convert('RGB').getcolors(2**20)
        return image.format == 'PNG' and min(image.size) > 400 and len(colors) > 100


def only(folder):
    return [p.name for p in folder.iterdir()]


@pytest.mark.parametrize('steps', [1, 30])
def test_search(tmp_path, steps):
    numbers = iter(range(steps))

    def measure(arch):
        good = distance(arch)
        if next(numbers) % 7 == 3:
            return Measurement(good.length_distortion, Score.bad('x'))
        return good

    records = records_of(Reinforce(), Memo(measuring(measure), remeasure=True), steps)
    path = plot_search(records, tmp_path / 'a.png')
    assert is_picture(path)
    assert only(tmp_path) == ['a.png']


@pytest.mark.parametrize('steps', [1, 4])
def test_scaling(tmp_path, steps):
    search = AutoScaling(SEED, Memo(cost_measure), Budget(10, 32, 10**8), min_params=5 * 10**7)
    series = [search.step().to_record(candidates=True) for _ in range(steps)]
    assert is_picture(plot_scaling(series, tmp_path / 'a.png', 10**7, 10**8))
    assert is_picture(plot_scaling(series, tmp_path / 'b.png'))


def scalars(tmp_path):
    """As MMEngine's LocalVisBackend writes them: 23 iterations an epoch."""
    lines = []
    for epoch in range(1, 11):
        lines.append({'loss': 2 / epoch, 'lr': 1e-3, 'epoch': epoch, 'iter': 23 * epoch - 3,
                      'step': 23 * epoch - 3})  # fmt: skip
        lines.append({'accuracy/top1': 90.0 + epoch / 2, 'data_time': 0.1, 'step': epoch})
    path = tmp_path / 'scalars.json'
    path.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    return path


def test_learning_curve(tmp_path):
    train, val = read_scalars(scalars(tmp_path))
    assert train['loss'] == [2 / epoch for epoch in range(1, 11)]
    assert train['epoch'][-1] == pytest.approx(10)
    assert val == {'epoch': list(range(1, 11)), 'accuracy': [90 + e / 2 for e in range(1, 11)]}
    phases = [{'end': 2, 'stride': 16}, {'end': 5, 'stride': 8}, {'end': 10, 'stride': 4}]
    assert is_picture(plot_learning_curve(scalars(tmp_path), tmp_path / 'a.png', phases))


def test_bad_scalars_are_one_line(tmp_path):
    with pytest.raises(InputError, match='does not exist'):
        read_scalars(tmp_path / 'no.json')
    for text, words in (('{"x"', 'no JSON lines'), ('{"x": 1}\n', 'neither a loss nor')):
        (tmp_path / 's.json').write_text(text)
        with pytest.raises(InputError, match=words):
            read_scalars(tmp_path / 's.json')
