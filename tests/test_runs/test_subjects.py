"""Models by name: what is built, and the lines of the refusals."""

import logging

import pytest
import torch

from asvit_mm.arch import PRESETS
from asvit_mm.errors import InputError
from asvit_mm.measures import fresh_network
from asvit_mm.runs.subjects import find_subject

MINE = """
import torch
def net():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 8, 8), torch.nn.ReLU())
def number():
    return 3
def broken():
    raise KeyError('x')
"""


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'mine_to_measure.py').write_text(MINE)


def test_an_architecture_is_itself():
    assert find_subject('seed', 32) == PRESETS['seed']


@pytest.mark.parametrize(
    ('spec', 'shape'),
    [
        ('timm:vit_tiny_patch16_224', (2, 5, 192)),
        ('mine_to_measure:net', (2, 16, 4)),
        pytest.param('mmpretrain:deit-tiny_4xb256_in1k', (2, 1, 192), marks=pytest.mark.slow),
    ],
)
def test_a_seed_decides_the_weights(spec, shape):
    subject = find_subject(spec, 32)
    first, again, other = (fresh_network(subject, (seed,)).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert any(not torch.equal(value, other[name]) for name, value in first.items())
    network = fresh_network(subject, (0,))
    assert network.last_tokens(torch.zeros(2, 3, 32, 32)).shape == shape
    assert logging.root.manager.disable == logging.NOTSET


@pytest.mark.parametrize(
    ('spec', 'words'),
    [
        ('timm:nothing', 'no such model'),
        ('timm:pit_ti_224', 'cannot be built|cannot take an image'),
        ('mine_to_measure:nothing', 'is no function of Python'),
        ('mine_to_measure:torch', 'is no function'),
        ('mine_to_measure:number', 'returns int, not an nn.Module'),
        ('mine_to_measure:broken', 'cannot be built: KeyError'),
        ('no_such_module:x', "No module named 'no_such_module'"),
        pytest.param('mmpretrain:nothing', 'Failed to find model', marks=pytest.mark.slow),
    ],
)
def test_refusals(spec, words):
    with pytest.raises(InputError, match=words):
        find_subject(spec, 8)
