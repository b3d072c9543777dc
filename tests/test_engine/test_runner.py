"""What a user can get wrong with the training and testing tools gets one clear line, early."""

import json
import pickle
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

from asvit_mm.checkpoints.reading import read_checkpoint
from asvit_mm.data.image_sets import DIGITS, write_image_set
from asvit_mm.engine import runner
from asvit_mm.engine.arguments import EvaluateSettings, TrainSettings
from asvit_mm.engine.config import MissingCodebaseError, check_data, load_config
from asvit_mm.errors import InputError

ROOT = Path(__file__).parents[2]
LEAF = ROOT / 'configs/digits/asvit-seed_b64-progressive_digits.py'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits, and weights of the model of ``LEAF`` as x.pth."""
    folder = tmp_path_factory.mktemp('data')
    write_image_set(DIGITS, folder / 'digits')
    with DefaultScope.overwrite_default_scope('mmpretrain'), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MODELS.build(load_config(LEAF).model)
    torch.save({'state_dict': model.state_dict()}, folder / 'x.pth')
    return folder


@pytest.fixture
def digits(here: Path, data: Path) -> Path:
    """The current directory with both."""
    (here / 'data').symlink_to(data)
    (here / 'x.pth').symlink_to(data / 'x.pth')
    return here


def _arguments(config: Any = LEAF, **given: Any) -> Any:
    """Settings of testing where there is anything that training does not have, else of training."""
    if {'checkpoint', 'out', 'out_item'} & set(given):
        return EvaluateSettings(config=str(config), **{'checkpoint': 'x.pth', **given})
    return TrainSettings(config=str(config), **given)


def _one_line(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert '\n' not in str(caught.value)


def test_configs_that_cannot_be_used(here: Path) -> None:
    (here / 'raises.py').write_text('x = 1 / 0')
    (here / 'base.py').write_text("_base_ = ['absent.py']")
    (here / 'package.py').write_text("_base_ = ['mmpretrain::_base_/absent.py']")
    (here / 'model.py').write_text("model = dict(type='ImageClassifier')")
    for config, message in (
        ('absent.py', "config 'absent.py' does not exist"),
        ('raises.py', 'ZeroDivisionError'),
        ('base.py', 'cannot be read: .*absent.py'),
        ('package.py', 'cannot be read'),
        ('model.py', "no 'train_cfg', which training needs"),
    ):
        _one_line(lambda config=config: runner.train(_arguments(config)), message)
    arguments = _arguments(cfg_options=['train_dataloader.batch_size.deep=1'])
    _one_line(lambda: runner.train(arguments), '--cfg-options do not fit')


def test_missing_data_names_path_field_and_remedy(here: Path) -> None:
    _one_line(
        lambda: runner.train(_arguments()),
        r"'data/digits' \(train_dataloader.dataset.data_root\) does not exist: "
        '.*python -m asvit_mm.data.image_sets digits data/digits',
    )
    for config, command in (
        ('mnist5k/asvit-seed_b64-progressive_mnist5k', 'image_sets mnist5k data/mnist5k'),
        ('scenes/mask-rcnn_asvit-seed_fpn_12e_scenes', 'scenes data/scenes'),
    ):
        arguments = _arguments(ROOT / f'configs/{config}.py')
        _one_line(
            lambda a=arguments: runner.train(a), f'write it with `python -m asvit_mm.data.{command}'
        )
    imagenet = ROOT / 'configs/asvit/asvit-small_8xb128_in1k.py'
    _one_line(
        lambda: runner.train(_arguments(imagenet)),
        "'data/imagenet' .* does not exist: "
        '.*--cfg-options train_dataloader.dataset.data_root=PATH',
    )


def test_empty_and_wrapped_data_are_seen_and_storage_addresses_left_alone(here: Path) -> None:
    (here / 'data').mkdir()
    (here / 'config.py').write_text(
        "inner = dict(type='CustomDataset', data_root='data')\n"
        "train_dataloader = dict(dataset=dict(type='RepeatDataset', times=2, dataset=inner))\n"
        "val_dataloader = dict(dataset=dict(type='ConcatDataset', datasets=[inner, inner]))\n"
        "test_dataloader = dict(dataset=dict(type='CustomDataset', data_root='s3://bucket/x'))\n"
    )
    cfg = load_config('config.py')
    _one_line(
        lambda: check_data(cfg, ['train_dataloader']), r'dataset.dataset.data_root\) is empty'
    )
    _one_line(
        lambda: check_data(cfg, ['val_dataloader']), r'dataset.datasets.0.data_root\) is empty'
    )
    check_data(cfg, ['test_dataloader'])
    (here / 'data' / 'x.png').touch()
    check_data(cfg, ['train_dataloader', 'val_dataloader'])


def test_checkpoints_that_are_missing_truncated_or_of_something_else(digits: Path) -> None:
    _one_line(
        lambda: runner.test(_arguments(checkpoint='absent.pth')), "'absent.pth' does not exist"
    )
    _one_line(lambda: runner.train(_arguments(resume='absent.pth')), "'absent.pth' does not exist")
    torch.save({'state_dict': {'weight': torch.zeros(1000)}}, 'other.pth')
    whole = Path('other.pth').read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 10):
        Path('cut.pth').write_bytes(whole[:size])
        _one_line(
            lambda: runner.test(_arguments(checkpoint='cut.pth')),
            "'cut.pth' is truncated or not a checkpoint",
        )
    Path('text.pth').write_text('no checkpoint at all')
    _one_line(lambda: read_checkpoint('text.pth'), 'truncated or not a checkpoint')
    torch.save([1, 2], 'list.pth')
    _one_line(lambda: read_checkpoint('list.pth'), 'holds a list')
    _one_line(
        lambda: runner.test(_arguments(checkpoint='other.pth', work_dir='w')),
        "none of the 1 weights in 'other.pth' fits the model",
    )


def test_checkpoints_that_the_model_cannot_go_on_from(digits: Path) -> None:
    own = read_checkpoint('x.pth')['state_dict']
    meta = {'epoch': 1, 'iter': 23}
    torch.save({'state_dict': {'weight': torch.zeros(3)}, 'meta': meta}, 'other.pth')
    part = {key: value for key, value in own.items() if key != 'head.layers.head.bias'}
    torch.save({'state_dict': part, 'meta': meta}, 'part.pth')
    torch.save({'state_dict': [1]}, 'list.pth')
    for name, message in (
        ('x.pth', 'no run to resume: .*load_from=x.pth'),
        ('other.pth', 'none of the 1 weights'),
        ('part.pth', r'1 of the \d+ weights of the model are not .*head.layers.head.bias'),
        ('list.pth', 'holds a list, no weights'),
    ):
        _one_line(lambda name=name: runner.train(_arguments(resume=name, work_dir='w')), message)
    options = ['load_from=other.pth']
    _one_line(
        lambda: runner.train(_arguments(cfg_options=options, work_dir='w')), 'none of the 1 weights'
    )
    model = MODELS.build(load_config(LEAF).model)
    for enough in (part, {f'module.{key}': value for key, value in own.items()}):
        runner._check_weights(model, {'state_dict': enough}, 'x.pth')


def test_folders_that_cannot_be_made(digits: Path) -> None:
    (digits / 'file').touch()
    for folder in ('file', 'file/w'):
        _one_line(
            lambda folder=folder: runner.train(_arguments(work_dir=folder)),
            f"--work-dir '{folder}' cannot be made or written to",
        )
    _one_line(
        lambda: runner.test(_arguments(checkpoint='x.pth', work_dir='w', out='file/m.json')),
        "--out 'file/m.json' cannot be written",
    )


def test_metrics_of_every_kind_are_written(digits: Path) -> None:
    (digits / 'config.py').write_text(
        f"_base_ = ['{LEAF}']\n"
        'test_dataloader = dict(num_workers=0, dataset=dict(indices=8))\n'
        'test_evaluator = [\n'
        "    dict(type='ConfusionMatrix'), dict(type='SingleLabelMetric', average=None)\n"
        ']\n'
    )
    metrics = runner.test(
        _arguments('config.py', checkpoint='x.pth', work_dir='w', out='new/m.json')
    )
    written = json.loads(Path('new/m.json').read_text())
    assert written['confusion_matrix/result'] == metrics['confusion_matrix/result'].tolist()
    assert len(written['single-label/precision_classwise']) == 10
    assert runner._plain({'loss': float('nan'), 'n': 3, 'what': torch.float32}) == {
        'loss': None,
        'n': 3,
        'what': 'torch.float32',
    }


def test_at_another_token_stride(digits: Path) -> None:
    (digits / 'config.py').write_text(
        f"_base_ = ['{LEAF}']\n"
        'test_dataloader = dict(num_workers=0, dataset=dict(indices=64))\n'
        "test_evaluator = dict(_delete_=True, type='SingleLabelMetric', average=None)\n"
    )

    def metrics(**given: Any) -> dict[str, Any]:
        return runner.test(_arguments('config.py', checkpoint='x.pth', work_dir='w', **given))

    flag, option = metrics(token_stride=8), metrics(cfg_options=['model.backbone.token_stride=8'])
    assert flag == option
    assert flag != metrics()
    _one_line(
        lambda: metrics(token_stride=6), '--token-stride: token stride 6 is not a multiple of 4'
    )
    _one_line(
        lambda: metrics(token_stride=32), '--token-stride: token stride 32 is too coarse for 32'
    )
    (digits / 'config.py').write_text(
        f"_base_ = ['{LEAF}']\n"
        "model = dict(backbone=dict(_delete_=True, type='ResNet', depth=18, out_indices=(3,)),\n"
        '    head=dict(in_channels=512))\n'
    )
    weights = MODELS.build(load_config('config.py').model).state_dict()
    torch.save({'state_dict': weights}, 'resnet.pth')
    _one_line(
        lambda: runner.test(
            _arguments('config.py', checkpoint='resnet.pth', work_dir='w', token_stride=8)
        ),
        '--token-stride: the model has no AsViT backbone',
    )


def test_augmentation_at_test_time_is_the_mean_over_both_mirror_images(digits: Path) -> None:
    flip = "dict(type='RandomFlip', prob={}), dict(type='PackInputs')"
    steps = "dict(type='LoadImageFromFile'), dict(type='Resize', scale=(32, 32)), "
    loader = f"_base_ = ['{LEAF}']\ntest_dataloader = dict(num_workers=0, dataset=dict(indices=8"

    def scores(name: str, pipeline: str, **given: Any) -> torch.Tensor:
        (digits / f'{name}.py').write_text(f'{loader}, pipeline=[{steps}{pipeline}]))')
        arguments = _arguments(f'{name}.py', checkpoint='x.pth', work_dir='w', out=f'{name}.pkl')
        runner.test(replace(arguments, **given))
        found = pickle.loads(Path(f'{name}.pkl').read_bytes())
        return torch.stack([one['pred_score'] for one in found])

    both = scores('both', flip.format(0.0), tta=True)
    mirrored, plain = scores('mirrored', flip.format(1.0)), scores('plain', flip.format(0.0))
    assert not torch.allclose(mirrored, plain)
    torch.testing.assert_close(both, (mirrored + plain) / 2)


def test_detection_without_operators_names_the_command(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / 'config.py').write_text("default_scope = 'mmdet'\nmodel = dict(type='MaskRCNN')")
    # None makes Python's own import machinery refuse the module, as it does when there is none.
    monkeypatch.setitem(sys.modules, 'mmcv._ext', None)
    _one_line(
        lambda: runner.train(_arguments('config.py')),
        'mmdet needs mmcv with compiled operators.*mim install',
    )


def test_flags_that_cannot_be_met(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('RANK', raising=False)
    _one_line(
        lambda: runner.train(_arguments(launcher='pytorch')), '--launcher pytorch without RANK'
    )
    options = ['auto_scale_lr.base_batch_size=None']
    _one_line(
        lambda: runner.train(_arguments(auto_scale_lr=True, cfg_options=options)), 'base_batch_size'
    )
    _one_line(lambda: runner.test(_arguments(out_item='pred')), '--out-item without --out')
    _one_line(
        lambda: runner.test(_arguments(out='m.txt')), r'pred are written to \.pkl or \.pickle'
    )
    if not torch.cuda.is_available():
        _one_line(lambda: runner.train(_arguments(amp=True)), '--amp needs a GPU')


@pytest.mark.parametrize(
    ('base', 'message'),
    [
        ('mmpose::a/b.py', 'needs mmpose, which is not installed: install mmpose'),
        pytest.param(
            'mmseg::_base_/default_runtime.py',
            r"needs mmseg, which is not installed: pip install '.\[segmentation\]'",
            marks=pytest.mark.skipif(find_spec('mmseg') is not None, reason='mmseg is installed'),
        ),
    ],
)
def test_a_base_of_a_codebase_that_is_not_installed(here: Path, base: str, message: str) -> None:
    (here / 'config.py').write_text(f'_base_ = {base!r}\n')
    _one_line(lambda: load_config('config.py'), message)
    with pytest.raises(MissingCodebaseError):
        load_config('config.py')
