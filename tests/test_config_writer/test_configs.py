"""Written configs: read by plain MMEngine elsewhere, built, trained a step, compared with the shipped."""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.registry import DATASETS, MODELS
from mmpretrain.structures import DataSample
from PIL import Image

from asvit_mm.arch import PRESETS, as_architecture
from asvit_mm.config_writer.configs import (
    config_text,
    fit_phases,
    train_command,
)
from asvit_mm.config_writer.detection import detection_text
from asvit_mm.config_writer.naming import RunConfigs, network_names
from asvit_mm.config_writer.shipped import shipped_config
from asvit_mm.config_writer.text import code
from asvit_mm.cost import count_macs, count_params
from asvit_mm.data.source import describe_data
from asvit_mm.errors import InputError
from asvit_mm.models import AsViT
from asvit_mm.token_schedule import phases_of_run, read_schedule

from ..test_configs import decayed_groups

TINY = as_architecture('4,2,2,1|2,1,2,1|2,1,2,1|2,1,2,2|16,12')
HOOK = 'asvit_mm.ProgressiveTokenizationHook'

USER_CONFIG = """
_base_ = ['mmpretrain::_base_/default_runtime.py']
model = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet', depth=18, num_stages=4, out_indices=(3,)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead', num_classes=7, in_channels=512, loss=dict(type='CrossEntropyLoss')
    ),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.3)]),
)
data_preprocessor = dict(num_classes=7, mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0], to_rgb=True)
train_dataloader = dict(
    batch_size=24,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='CIFAR10', data_root='data/cifar10', split='train', pipeline=[]),
)
train_cfg = dict(by_epoch=True, max_epochs=30)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
custom_hooks = [dict(type='EMAHook')]
"""


@pytest.fixture
def folder(tmp_path):
    """Three classes with train/ and val/."""
    for split in ('train', 'val'):
        for name in 'abc':
            (tmp_path / 'pets' / split / name).mkdir(parents=True)
            image = Image.fromarray(np.zeros((6, 8, 3), np.uint8))
            image.save(tmp_path / 'pets' / split / name / '0.png')
    return tmp_path / 'pets'


@pytest.fixture
def user_config(tmp_path):
    path = tmp_path / 'mine' / 'my.resnet-18.py'
    path.parent.mkdir()
    path.write_text(USER_CONFIG)
    return path


def read(arch, data, progressive=False):
    return Config.fromstring(config_text(arch, data, progressive=progressive), '.py')


def test_reads_in_a_process_that_has_imported_no_package(tmp_path):
    data = describe_data('digits', 32)
    script = 'import sys\nfrom mmengine.config import Config\n'
    for write in (config_text, detection_text):
        path = tmp_path / f'{write.__name__}.py'
        path.write_text(write(TINY, data))
        script += f'print(Config.fromfile({str(path)!r}).model.backbone.arch)\n'
    script += "assert not {'asvit_mm', 'mmdet', 'mmpretrain'} & set(sys.modules)"
    done = subprocess.run(
        [sys.executable, '-c', script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-2:] == [str(TINY)] * 2


def same_but_arch(written, shipped):
    first, second = written.to_dict(), shipped.to_dict()
    for cfg in (first, second):
        assert as_architecture(cfg['model']['backbone'].pop('arch'))
        # tanh is the head's default, written out or not
        cfg['model']['head'].setdefault('act_cfg', {'type': 'Tanh'})
    assert first == second


def test_the_digits_config_is_the_shipped_recipe():
    written = read(PRESETS['seed'], describe_data('digits', 32), progressive=True)
    shipped = Config.fromfile(shipped_config('digits/asvit-seed_b64-progressive_digits.py'))
    same_but_arch(written, shipped)


def test_the_imagenet_config_is_the_shipped_recipe():
    for size, progressive, name in (
        ('small', False, 'asvit-small_8xb128_in1k'),
        ('large', True, 'asvit-large_8xb128-progressive_in1k'),
    ):
        written = read(PRESETS[size], describe_data('noise', 32), progressive)
        same_but_arch(written, Config.fromfile(shipped_config(f'asvit/{name}.py')))


def test_the_detection_config_is_the_shipped_recipe():
    text = detection_text(PRESETS['small'], describe_data('noise', 32))
    written = Config.fromstring(text, '.py').to_dict()
    shipped = Config.fromfile(shipped_config('coco/mask-rcnn_asvit-s_fpn_1x_coco.py')).to_dict()
    assert as_architecture(written['model']['backbone'].pop('arch')) == PRESETS['small']
    assert shipped['model']['backbone'].pop('arch') == 'small'
    assert written['model']['backbone'].pop('img_size') == 224
    assert written == shipped


def test_digits_at_another_size():
    cfg = read(TINY, describe_data('digits', 20))
    assert cfg.model.backbone.img_size == 20
    assert [step.scale for step in cfg.train_pipeline if step.type == 'Resize'] == [(20, 20)]
    assert cfg.get('custom_hooks') is None


def test_an_image_folder(folder):
    cfg = read(TINY, describe_data(str(folder), 48))
    assert cfg.model.head.num_classes == 3
    assert Path(cfg.train_dataloader.dataset.data_root) == folder
    assert cfg.train_dataloader.dataset.data_prefix == 'train'
    assert cfg.val_dataloader.dataset.data_prefix == 'val'
    assert cfg.val_evaluator.topk == (1,)
    assert cfg.train_pipeline[1].scale == 48
    assert 'RandomCrop' in [step.type for step in cfg.train_pipeline]
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(1e-3 * cfg.batch_size / 128)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        for loader in (cfg.train_dataloader, cfg.val_dataloader):
            dataset = DATASETS.build(loader.dataset)
            assert len(dataset) == 3
            assert dataset[0]['inputs'].shape == (3, 48, 48)


def test_an_image_folder_without_validation(folder):
    data = describe_data(str(folder / 'train'), 32)
    text = config_text(TINY, data)
    cfg = Config.fromstring(text, '.py')
    assert 'nothing is validated' in text
    assert cfg.get('val_dataloader') is None
    assert cfg.val_cfg is None
    assert (data.num_classes, cfg.train_dataloader.dataset.data_prefix) == (3, '')


def test_a_users_config_keeps_all_but_the_model(user_config):
    data = describe_data(str(user_config), 64)
    mine = Config.fromfile(user_config)
    cfg = read(TINY, data, progressive=True)
    assert cfg.model.backbone.to_dict() == {
        'type': 'asvit_mm.AsViT', 'arch': str(TINY), 'img_size': 64,
    }  # fmt: skip
    assert cfg.model.head.num_classes == 7
    assert cfg.model.head.loss.type == 'CrossEntropyLoss'
    assert cfg.model.train_cfg == mine.model.train_cfg
    for name in ('data_preprocessor', 'train_dataloader', 'optim_wrapper', 'train_cfg'):
        assert cfg[name] == mine[name]
    assert [hook.type for hook in cfg.custom_hooks] == ['EMAHook', HOOK]
    assert cfg.custom_hooks[1].phases == '80-140'
    name = f'{next(network_names(TINY, data))}_b24_myresnet18.py'
    assert RunConfigs(data).add(TINY)['config'] == f'configs/{name}'


@pytest.mark.parametrize(
    ('head', 'kind', 'pooled'),
    [
        ("type='MultiLabelLinearClsHead', thr=0.3", 'MultiLabelLinearClsHead', True),
        ("type='mmpretrain.MultiLabelClsHead', thr=0.3", 'MultiLabelLinearClsHead', True),
        ("type='CSRAClsHead', num_heads=1, lam=0.1, thr=0.3", 'CSRAClsHead', False),
    ],
)
def test_a_head_for_several_labels_is_kept(user_config, head, kind, pooled):
    text = USER_CONFIG.replace("type='LinearClsHead'", head).replace(
        "loss=dict(type='CrossEntropyLoss')", "loss=dict(type='CrossEntropyLoss', use_sigmoid=True)"
    )
    user_config.write_text(text)
    data = describe_data(str(user_config), 32)
    assert 'is kept' in config_text(TINY, data)
    cfg = read(TINY, data)
    assert cfg.model.head.to_dict() == {
        **Config.fromstring(text, '.py').model.head.to_dict(), 'type': kind, 'in_channels': 96,
    }  # fmt: skip
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
    assert model.with_neck == pooled
    sample = DataSample().set_gt_score(torch.ones(7))
    losses = model.loss(torch.randn(2, 3, 32, 32), [sample, sample])
    assert losses['loss'].isfinite()


def test_images_of_another_number_of_channels(user_config):
    user_config.write_text(USER_CONFIG.replace('depth=18', 'depth=18, in_channels=1'))
    data = describe_data(str(user_config), 32)
    cfg = read(TINY, data)
    assert cfg.model.backbone.in_channels == 1
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
    assert sum(p.numel() for p in model.parameters()) == data.params(TINY)
    assert data.macs(TINY) < replace(data, in_channels=3).macs(TINY)
    user_config.write_text(USER_CONFIG.replace('depth=18', "depth=18, in_channels='x'"))
    with pytest.raises(InputError, match='in_channels'):
        describe_data(str(user_config), 32)


def test_a_users_own_schedule_of_tokens_is_kept_and_not_doubled():
    shipped = shipped_config('digits/asvit-seed_b64-progressive_digits.py')
    data = describe_data(str(shipped), 32)
    for progressive in (False, True):
        cfg = read(TINY, data, progressive)
        assert cfg.custom_hooks == Config.fromfile(shipped).custom_hooks


def test_a_config_of_data_alone_gets_a_schedule(tmp_path):
    path = tmp_path / 'data_only.py'
    dataset = shipped_config('_base_/datasets/digits_bs64_32.py')
    path.write_text(f'_base_ = [{str(dataset)!r}]\n')
    cfg = read(TINY, describe_data(str(path), 32), progressive=True)
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(1e-3 * 64 / 128)
    assert cfg.auto_scale_lr.base_batch_size == 64
    assert cfg.custom_hooks[0].phases == '80-140'
    assert cfg.model.backbone.arch == str(TINY)
    assert cfg.val_dataloader.dataset.data_prefix == 'val'


def test_a_config_of_the_pure_python_style_is_taken_in(tmp_path):
    """MMEngine takes no base of its other kind."""
    path = tmp_path / 'lazy.py'
    path.write_text('import torch\ndata_preprocessor = dict(num_classes=7)\n')
    cfg = read(TINY, describe_data(path, 32))
    assert cfg.data_preprocessor.num_classes == cfg.model.head.num_classes == 7


def test_what_no_config_can_be_built_on_is_one_line(tmp_path):
    path = tmp_path / 'gone.py'
    path.write_text('data_preprocessor = dict(num_classes=7)\n')
    data = describe_data(path, 32)
    path.unlink()
    with pytest.raises(InputError, match=r'no config can be built on .*gone') as caught:
        config_text(TINY, data)
    assert '\n' not in str(caught.value)


def test_values_are_written_as_code():
    value = {'a': [float('inf'), {'class': 'x', 1: None}], 'b': ('{{ x }}', -1.5)}
    assert code(value).startswith("dict(a=[float('inf'), {'class'")
    assert eval(code(value)) == value


def test_part_of_a_schedule_and_no_classes_are_refused(user_config):
    user_config.write_text(USER_CONFIG.replace('optim_wrapper = ', 'other = '))
    with pytest.raises(InputError, match="part of a schedule, but no 'optim_wrapper'"):
        config_text(TINY, describe_data(str(user_config), 32))
    user_config.write_text(USER_CONFIG.replace('num_classes=7, ', ''))
    with pytest.raises(InputError, match='no number of classes'):
        describe_data(str(user_config), 32)


def test_weights_of_the_users_model_are_not_loaded_and_its_unit_is_kept(user_config):
    text = USER_CONFIG.replace('by_epoch=True, max_epochs=30', 'max_iters=3000')
    user_config.write_text(text + "load_from = 'resnet.pth'\n")
    cfg = read(TINY, describe_data(str(user_config), 64), progressive=True)
    assert cfg.load_from is None
    assert cfg.custom_hooks[1].by_epoch is False
    assert cfg.custom_hooks[1].phases == '80-140'


PHASES = '16@8,8@18,4@60'
SPLIT_IN_8 = as_architecture('4,8,2|2,1,2|2,1,2|2,1,2|16')
MANY_WINDOWS = ('4,8,2|2,4,2|2,2,2|2,1,2|16', '4,4,2|2,4,2|2,2,2|2,1,2|16/1')


@pytest.mark.filterwarnings('ignore:.*single tokens')
@given(
    st.sampled_from([*MANY_WINDOWS, '4,2,2|2,1,2|2,1,2|2,1,2|16/2']),
    st.integers(8, 96),
    st.sampled_from(
        [[dict(end=8, stride=16), dict(end=18, stride=8), dict(end=60, stride=4)], '80-140']
    ),
)
def test_written_phases_can_be_trained_and_save(arch, size, schedule):
    arch = as_architecture(arch)
    fitted = fit_phases(schedule, arch, size, 60)
    settings = dict(window_size=fitted.window_size)
    network = AsViT(arch, size, **settings)
    costs = []
    phases = phases_of_run(read_schedule(fitted.phases, arch.stride), 60)
    for phase in phases:
        network.check_token_stride(phase.stride)
        costs.append(count_macs(arch, size, token_stride=phase.stride, **settings))
    assert costs == sorted(set(costs))
    assert costs[-1] == count_macs(arch, size)
    assert (phases[-1].end, phases[-1].stride) == (60, arch.stride)
    assert 0 < fitted.saved < 100


@pytest.mark.filterwarnings('ignore:.*single tokens')
def test_windows_are_fixed_where_splits_leave_no_room():
    """The full grid is the same network with them; and nothing changes where the splits fit."""
    for arch, size in ((TINY, 32), (SPLIT_IN_8, 128)):
        assert fit_phases(PHASES, arch, size, 60).window_size is None
    cfg = read(SPLIT_IN_8, describe_data('digits', 64), progressive=True)
    assert [phase.stride for phase in cfg.custom_hooks[0].phases] == [16, 8, 4]
    torch.manual_seed(0)
    fixed = AsViT(SPLIT_IN_8, 64, window_size=cfg.model.backbone.window_size).eval()
    growing = AsViT(SPLIT_IN_8, 64).eval()
    growing.load_state_dict(fixed.state_dict())
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(fixed(images)[0], growing(images)[0])
    fixed.check_token_stride(16)
    with pytest.raises(InputError, match='too coarse'):
        growing.check_token_stride(16)


@pytest.mark.parametrize(
    ('schedule', 'words'),
    [
        ('16|8|4@1.0', 'an end and one stride'),
        ('16/1@0.5,4@1.0', 'an end and one stride'),
        ('16*0.5@0.5,4@1.0', 'an end and one stride'),
        ([dict(end=0.5, stride=[8], weights=[1]), dict(end=1.0, stride=4)], 'an end and one stride'),
        ('6@0.5,4@1.0', 'a multiple of 4'),
        ('16@0.5,8@1.0', 'ends at stride 8, not the full grid'),
        ('16@8,4@50', 'ends at epoch 50 and the run has 60'),
    ],
)  # fmt: skip
def test_schedules_that_cannot_be_fitted_are_refused(schedule, words):
    with pytest.raises(InputError, match=words):
        fit_phases(schedule, TINY, 32, 60)


def test_what_saves_nothing_is_refused(user_config):
    with pytest.raises(InputError, match='save nothing in a run of 60 with images of 4 pixels'):
        fit_phases(PHASES, TINY, 4, 60)
    user_config.write_text(USER_CONFIG.replace('max_epochs=30', 'max_epochs=1'))
    data = describe_data(str(user_config), 32)
    with pytest.raises(InputError, match='save nothing in a run of 1 '):
        config_text(TINY, data, progressive=True)
    assert read(TINY, data).custom_hooks == Config.fromfile(user_config).custom_hooks


def test_the_header_says_what_it_is_and_how_to_train_it():
    data = describe_data('digits', 32)
    lines = config_text(TINY, data, path="work dirs/it's.py").splitlines()
    assert lines[0] == f'# As-ViT {TINY}'
    assert f'{count_params(TINY, 10, img_size=32):,} parameters' in lines[1]
    assert lines[2] == """# Train: python tools/train.py 'work dirs/it'"'"'s.py'"""
    noise = describe_data('noise', 32)
    assert train_command('c.py', noise) == 'bash tools/dist_train.sh c.py 8'


def trained_step(cfg, data):
    """The loss of one step of the config's model and optimizer on random images."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model | {'data_preprocessor': cfg.data_preprocessor})
    assert model.backbone.architecture == TINY
    params = sum(p.numel() for p in model.parameters())
    assert params == count_params(TINY, data.num_classes, img_size=data.img_size)
    if data.kind != 'config':
        decayed_groups(model, cfg.optim_wrapper)
    size = data.img_size
    batch = {
        'inputs': torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8),
        'data_samples': [DataSample().set_gt_label(i) for i in range(2)],
    }
    before = {name: p.clone() for name, p in model.named_parameters()}
    loss = model.train_step(batch, build_optim_wrapper(model, cfg.optim_wrapper))['loss'].item()
    # Weights whose gradient is zero at first may stay.
    assert any(not torch.equal(before[name], p) for name, p in model.named_parameters())
    return loss


@pytest.mark.parametrize('kind', ['digits', 'noise', 'folder', 'config'])
def test_every_classifier_is_read_anywhere_and_trains_a_step(
    tmp_path, monkeypatch, folder, user_config, kind
):
    monkeypatch.chdir(tmp_path)
    data = describe_data({'folder': folder, 'config': user_config}.get(kind, kind), 32)
    (tmp_path / 'elsewhere').mkdir()
    path = tmp_path / 'elsewhere' / 'config.py'
    for progressive in (False, True):
        path.write_text(config_text(TINY, data, progressive=progressive))
        cfg = Config.fromfile(path)
        assert cfg.train_dataloader.batch_size > 0
        assert (HOOK in [hook.type for hook in cfg.get('custom_hooks', [])]) == progressive
    # Fresh weights: near the loss of a uniform guess.
    assert trained_step(cfg, data) == pytest.approx(math.log(data.num_classes), abs=0.5)
