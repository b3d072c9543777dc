"""Configs of the pure Python style, with imported types and read_base(), wherever a config is taken."""

import json

import pytest
from mmengine.config import Config

from asvit_mm.engine.config import load_config

from ..test_tools.runs import TINY, Here, write_images

BASE = """
from mmengine.dataset import DefaultSampler
from mmpretrain.datasets import CustomDataset, LoadImageFromFile, PackInputs

pipeline = [dict(type=LoadImageFromFile), dict(type=PackInputs)]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type=DefaultSampler, shuffle=True),
    dataset=dict(type=CustomDataset, data_root='images/train', pipeline=pipeline),
)
"""
CONFIG = """
from mmengine.config import read_base
from mmengine.optim import OptimWrapper
from mmpretrain.evaluation import Accuracy
from mmpretrain.models import GlobalAveragePooling, ImageClassifier, LinearClsHead
from torch.optim import SGD

from asvit_mm.engine.hooks import ProgressiveTokenizationHook
from asvit_mm.models import AsViT

with read_base():
    from .base import *

model = dict(
    type=ImageClassifier,
    backbone=dict(type=AsViT, arch='4,2,2|2,1,2|2,1,2|2,1,2|16', img_size=16),
    neck=dict(type=GlobalAveragePooling),
    head=dict(type=LinearClsHead, num_classes=2, in_channels=256),
)
test_dataloader = train_dataloader
test_evaluator = dict(type=Accuracy, topk=(1,))
test_cfg = dict()
train_cfg = dict(by_epoch=True, max_epochs=2)
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=SGD, lr=0.1))
custom_hooks = [dict(type=ProgressiveTokenizationHook, phases='8@1,4@2')]
"""


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    write_images(tmp_path)
    (tmp_path / 'base.py').write_text(BASE)
    (tmp_path / 'new.py').write_text(CONFIG)
    return Here(monkeypatch, capsys, tmp_path)


def test_the_tools_take_them(here):
    options = ['--cfg-options', 'optim_wrapper.optimizer.lr=0.2']
    said = here.run('train.py', 'new.py', '--work-dir', 'w', *options)
    assert 'token stride 4, dilation 1 from epoch 2 to 2' in said
    here.run('test.py', 'new.py', 'w/epoch_2.pth', '--out', 'metrics.json')
    assert 'accuracy/top1' in json.loads((here.folder / 'metrics.json').read_text())
    assert Config.fromfile('w/new.py').optim_wrapper.optimizer.lr == 0.2
    assert '878,594 parameters' in here.run('analysis_tools/get_flops.py', 'new.py')


def test_a_config_is_written_for_their_data_and_trains(here):
    args = ['--data', 'new.py', '--steps', 1, '--progressive', *TINY, '--img-size', 64]
    here.run('search.py', '--work-dir', 's', *args)
    written = json.loads((here.folder / 's/result.json').read_text())['config']
    cfg = load_config(f's/{written}')
    assert [hook.type for hook in cfg.custom_hooks] == [
        'asvit_mm.engine.hooks.ProgressiveTokenizationHook'
    ]
    assert 'asvit_mm.AsViT' in cfg.model.backbone.type
    assert cfg.train_dataloader.dataset.data_root == 'images/train'
    here.run('train.py', f's/{written}', '--work-dir', 't')


def test_a_mistake_in_them_is_one_line(here):
    for old, new, words in (
        ('type=ImageClassifier', 'type=ImageClasifier', 'ImageClasifier'),
        ('num_classes=2', 'num_clases=2', "needs 'num_classes': did you mean it by 'num_clases'?"),
        ('from .base', 'from .absent', 'cannot be read'),
    ):
        (here.folder / 'new.py').write_text(CONFIG.replace(old, new))
        assert words in here.refusal('train.py', 'new.py')
