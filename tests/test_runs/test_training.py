import math

import pytest
import torch

from asvit_mm.arch import Architecture
from asvit_mm.data.image_sets import DIGITS, write_image_set
from asvit_mm.data.source import describe_data
from asvit_mm.errors import InputError
from asvit_mm.runs.training import shortened, train_and_test, training_config

from ..test_tools.runs import write_images

ARCH = Architecture.parse('4,2,2|2,1,2|2,1,2|2,1,2|16')


@pytest.fixture
def digits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image_set(DIGITS)
    return describe_data('digits', 16)


def test_schedule_in_proportion():
    warm_up = {'type': 'LinearLR', 'end': 4, 'convert_to_iter_based': True}
    cosine = {'type': 'CosineAnnealingLR', 'begin': 4, 'end': 60}
    assert shortened([warm_up, cosine], 60, 15) == [
        {**warm_up, 'end': 1},
        {**cosine, 'begin': 1, 'end': 15},
    ]
    # The warm-up stays, however short the run; the rest goes when no epoch is left for it.
    assert shortened([warm_up, cosine], 60, 2) == [
        {**warm_up, 'end': 1},
        {**cosine, 'begin': 1, 'end': 2},
    ]
    assert shortened([warm_up, cosine], 60, 1) == [{**warm_up, 'end': 1}]
    steps = {'type': 'MultiStepLR', 'milestones': [30, 60, 90], 'gamma': 0.1}
    assert shortened([steps], 100, 10) == [{**steps, 'milestones': [3, 6, 9]}]
    by_iteration = {'type': 'LinearLR', 'end': 500, 'by_epoch': False}
    assert shortened([by_iteration], 100, 10) == [by_iteration]
    endless = {'type': 'ExponentialLR', 'gamma': 0.9, 'end': math.inf}
    assert shortened([endless], 100, 10) == [endless]
    assert shortened([], 60, 3) == []
    # From 95 of 100 epochs, 8 make 7.6; from 5, 0.4: the cosine is 7 epochs long, and so is its half wave.
    (late,) = shortened([dict(type='CosineAnnealingLR', begin=5, end=100, T_max=95)], 100, 8)
    assert (late['begin'], late['end'], late['T_max']) == (1, 8, 7)


def test_config_is_the_searchs_without_what_differs_between_networks(digits):
    cfg = training_config(ARCH, digits, epochs=6, seed=3, workers=1)
    assert cfg.train_cfg.max_epochs == 6
    assert [s.get('end') for s in cfg.param_scheduler] == [1, 6]
    assert cfg.optim_wrapper.optimizer.lr == 2e-3
    assert cfg.custom_hooks == []
    assert cfg.default_hooks.checkpoint is None
    assert cfg.randomness.seed == 3
    assert cfg.train_dataloader.num_workers == cfg.test_dataloader.num_workers == 1
    assert cfg.test_dataloader.dataset.data_prefix == 'val'
    assert cfg.model.backbone.arch == str(ARCH)


@pytest.mark.slow
def test_twice_alike_and_quietly_and_validation_changes_nothing(digits, tmp_path, capsys):
    def run(name, validate):
        cfg = training_config(ARCH, digits, epochs=2, seed=1, validate=validate)
        cfg.train_dataloader.dataset.indices = cfg.test_dataloader.dataset.indices = 40
        return train_and_test(cfg, tmp_path, name, torch.device('cpu'))

    plain, validated = run('a', False), run('b|2', True)
    assert 'Epoch(' in (tmp_path / 'logs' / 'b_2.log').read_text()
    assert 'Epoch(' not in capsys.readouterr().out
    assert list((tmp_path / 'training').iterdir()) == []
    assert 0 <= plain.top1 == validated.top1 <= 100
    assert plain.curve == []
    assert len(validated.curve) == 2
    assert validated.curve[-1] == pytest.approx(validated.top1)
    assert 0 < validated.seconds < 600


@pytest.mark.parametrize(('epochs', 'strong'), [(2, False), (40, True)])
def test_an_image_folder_is_trained_by_the_recipe_for_the_length(tmp_path, epochs, strong):
    write_images(tmp_path)
    cfg = training_config(ARCH, describe_data(tmp_path / 'images'), epochs=epochs, workers=1)
    assert cfg.train_cfg.max_epochs == epochs
    assert ('RandAugment' in [step.type for step in cfg.train_pipeline]) == strong
    assert cfg.train_dataloader.persistent_workers is False  # EpochSeedHook


def test_data_that_cannot_be_studied(tmp_path):
    with pytest.raises(InputError, match="'noise' has no labels"):
        training_config(ARCH, describe_data('noise', 32), epochs=1)
    for name in 'ab':
        (tmp_path / 'images' / 'train' / name).mkdir(parents=True)
        (tmp_path / 'images' / 'train' / name / '0.png').touch()
    with pytest.raises(InputError, match='has no validation set'):
        training_config(ARCH, describe_data(str(tmp_path / 'images'), 32), epochs=1)
    config = tmp_path / 'user.py'
    config.write_text(
        'data_preprocessor = dict(num_classes=3)\n'
        'train_cfg = dict(by_epoch=False, max_iters=100)\n'
        "optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))\n"
    )
    with pytest.raises(InputError, match='trains by iterations'):
        training_config(ARCH, describe_data(str(config), 32), epochs=1)


def test_a_users_config_is_followed(tmp_path):
    for split in ('train', 'val'):
        (tmp_path / 'd' / split / 'a').mkdir(parents=True)
        (tmp_path / 'd' / split / 'a' / 'x.png').touch()
    loader = (
        'dict(batch_size=2, num_workers=1, dataset='
        "dict(type='CustomDataset', data_root=root, data_prefix={!r}))"
    )
    (tmp_path / 'user.py').write_text(
        f'root = {str(tmp_path / "d")!r}\n'
        'data_preprocessor = dict(num_classes=3)\n'
        f'train_dataloader = {loader.format("train")}\n'
        f'val_dataloader = {loader.format("val")}\n'
        "val_cfg, val_evaluator = dict(), dict(type='Accuracy')\n"
        'train_cfg = dict(by_epoch=True, max_epochs=20)\n'
        "param_scheduler = dict(type='MultiStepLR', milestones=[10, 16])\n"
        "optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))\n"
        "custom_hooks = [dict(type='asvit_mm.ProgressiveTokenizationHook',"
        " phases=[dict(end=20, stride=4)]), dict(type='EMAHook')]\n"
    )
    cfg = training_config(ARCH, describe_data(str(tmp_path / 'user.py'), 32), epochs=4)
    assert cfg.param_scheduler[0].milestones == [2, 3]
    assert [hook.type for hook in cfg.custom_hooks] == ['EMAHook']
    assert cfg.train_dataloader.batch_size == 2
    assert cfg.test_dataloader.dataset.data_prefix == 'val'
    assert cfg.default_scope == 'mmpretrain'
