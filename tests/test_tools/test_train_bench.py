"""tools/analysis_tools/train_bench.py, outcome.py and train_networks.py as users run them."""

import json

import pytest

from .runs import Here, write_images

TINY = '4,2,2,1|2,1,2,1|2,1,2,1|2,1,2,1|16,16/2'


@pytest.fixture
def here(monkeypatch, capsys, tmp_path):
    write_images(tmp_path)
    return Here(monkeypatch, capsys, tmp_path)


def test_refusals(here):
    for name, *args in (
        ('analysis_tools/train_bench.py',),
        ('analysis_tools/outcome.py', f'cifar10-small={TINY}'),
    ):
        run = (name, *args, '--data', 'images')
        assert 'has 2 classes' in here.refusal(*run)
        assert 'is no part' in here.refusal(*run, '--part', 2)


def test_a_network(here, tmp_path):
    name = 'analysis_tools/train_networks.py'
    options = ('--data', 'images', '--img-size', 16, '--epochs', 1, '--device', 'cpu')
    here.run(name, TINY, *options, '--batch', 4)
    (row,) = json.loads((tmp_path / 'work_dirs/networks/results.json').read_text())['networks']
    assert row['network'] == TINY
    assert 'fewer than a batch' in here.refusal(name, TINY, *options)
