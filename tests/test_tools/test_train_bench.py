"""tools/analysis_tools/train_bench.py and train_networks.py as users run them."""

import json

import pytest

from .runs import Here, write_images

TINY = '4,2,2,1|2,1,2,1|2,1,2,1|2,1,2,1|16,16/2'


@pytest.fixture
def here(monkeypatch, capsys, tmp_path):
    write_images(tmp_path)
    return Here(monkeypatch, capsys, tmp_path)


def test_a_table_without_networks(here, tmp_path):
    """With no time for a training, the table is written all the same."""
    name = 'analysis_tools/train_bench.py'
    here.run(name, '--data', 'images', '--img-size', 16, '--minutes', 0, '--device', 'cpu')
    table = json.loads((tmp_path / 'work_dirs/bench/table.json').read_text())
    assert table['networks'] == []
    assert table['data'] == '12 training and 6 test images of 2 classes'
    assert 'is no part' in here.refusal(name, '--data', 'images', '--part', 2)


def test_a_network(here, tmp_path):
    name = 'analysis_tools/train_networks.py'
    options = ('--data', 'images', '--img-size', 16, '--epochs', 1, '--device', 'cpu')
    here.run(name, TINY, *options, '--batch', 4)
    (row,) = json.loads((tmp_path / 'work_dirs/networks/results.json').read_text())['networks']
    assert row['network'] == TINY
    assert 'fewer than a batch' in here.refusal(name, TINY, *options)
