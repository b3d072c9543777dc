"""Every door through which a checkpoint reaches our tools: none runs what is in it."""

import json

import pytest
from mmengine import fileio
from mmengine.fileio import LocalBackend
from mmengine.runner import CheckpointLoader

from asvit_mm.checkpoints.reading import load_from_asvit_mm, read_checkpoint, secure_mmengine
from asvit_mm.errors import InputError

from ..pickled import write_canary
from ..serving import served
from ..test_tools.runs import Here, forked, write_images

CONFIG = """
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    backbone=dict(type='asvit_mm.AsViT', arch='4,2,2|2,1,2|2,1,2|2,1,2|16', img_size=16),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=256),
)
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CustomDataset',
        data_root='images/train',
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')],
    ),
)
test_dataloader = train_dataloader
test_evaluator = dict(type='Accuracy')
test_cfg = dict()
train_cfg = dict(by_epoch=True, max_epochs=2)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
"""
# What names the checkpoint: arguments of tools/train.py, or lines of the config.
DOORS = {
    'load_from': "load_from = '{}'",
    'resume': ['--resume', '{}'],
    'whole model': "model.update(init_cfg=dict(type='Pretrained', checkpoint='{}'))",
    'head': "model['head'].update(init_cfg=dict(type='Pretrained', checkpoint='{}', prefix='head'))",
    'backbone': "model['backbone'].update(init_cfg=dict(type='Pretrained', checkpoint='{}'))",
    'timm': "model['backbone'] = dict(type='TIMMBackbone', model_name='test_vit', checkpoint_path='{}')",
}


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setenv('MMENGINE_HOME', str(tmp_path / 'mmengine'))
    (tmp_path / 'mmengine').mkdir()
    write_images(tmp_path)
    (tmp_path / 'config.py').write_text(CONFIG)
    # Of no use to whoever sets it: our tools take it back.
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    return Here(monkeypatch, capsys, tmp_path)


def test_the_reader_alone(here, monkeypatch):
    """Without the environment that our tools set for other libraries."""
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '0')
    monkeypatch.delenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD')
    ran = write_canary(here.folder / 'evil.pth')
    with pytest.raises(InputError, match='mkdir'):
        read_checkpoint('evil.pth')
    assert not ran.exists()


@pytest.mark.parametrize('door', DOORS)
def test_training(here, door):
    ran = write_canary(here.folder / 'evil.pth')
    given = DOORS[door]
    if isinstance(given, str):
        (here.folder / 'config.py').write_text(CONFIG + given.format('evil.pth'))
        given = []
    said = here.refusal('train.py', 'config.py', *(word.format('evil.pth') for word in given))
    assert 'mkdir' in said
    assert not ran.exists()


def test_a_run_that_goes_on_from_its_last_checkpoint(here):
    (here.folder / 'work_dirs/config').mkdir(parents=True)
    ran = write_canary(here.folder / 'work_dirs/config/epoch_1.pth')
    (here.folder / 'work_dirs/config/last_checkpoint').write_text('work_dirs/config/epoch_1.pth')
    assert 'mkdir' in here.refusal('train.py', 'config.py', '--resume')
    assert not ran.exists()


def test_testing_and_addresses_of_every_kind(here):
    """A folder whose name looks like a scheme, a server, MMEngine's own names, and storage."""
    folder = here.folder / 'x:'
    folder.mkdir()
    ran = write_canary(folder / 'evil.pth')

    class Storage(LocalBackend):
        def get_local_path(self, filepath):
            return super().get_local_path(str(folder / filepath.partition('://')[2]))

    fileio.register_backend('storage', Storage, prefixes='storage', force=True)
    with served(folder) as server:
        names = {'remote': f'{server}/evil.pth', 'here': str(folder / 'evil.pth')}
        (here.folder / 'mmengine/open_mmlab.json').write_text(json.dumps(names))
        for address in (
            *('x:/evil.pth', 'x://evil.pth', f'{server}/evil.pth', f'{server}/evil.pth?x=1'),
            *('openmmlab://remote', 'open-mmlab://remote', 'openmmlab://here'),
            'storage://evil.pth',
        ):
            assert 'mkdir' in here.refusal('test.py', 'config.py', address)
            with pytest.raises(InputError, match='mkdir'):
                CheckpointLoader.load_checkpoint(address)
    for address in (
        *('y://evil.pth', 's3://evil.pth', 'cluster:s3://evil.pth', 'petrel://evil.pth'),
        *('pavi://evil.pth', 'a://b://evil.pth', 'https://127.0.0.1:9/evil.pth'),
        *('torchvision://evil', 'modelzoo://evil', 'openmmlab://evil', 'mmcls://evil'),
    ):
        assert 'cannot be fetched' in here.refusal('test.py', 'config.py', address)
    assert not ran.exists()


def test_no_loader_of_mmengines_is_left(tmp_path):
    secure_mmengine()
    assert set(CheckpointLoader._schemes.values()) == {load_from_asvit_mm}
    ran = write_canary(tmp_path / 'evil.pth')
    with pytest.raises(InputError, match='mkdir'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'evil.pth'))
    assert not ran.exists()


def test_whole_checkpoints_go_through_these_doors(here):
    """A storage's, into the model; then a test of what was trained."""
    here.run('train.py', 'config.py', '--cfg-options', 'train_cfg.max_epochs=1')
    trained = here.folder / 'work_dirs/config/epoch_1.pth'
    here.run('train.py', 'config.py', '--resume', trained)
    with served(trained.parent) as server:
        here.run('test.py', 'config.py', f'{server}/epoch_2.pth')
    weights = CheckpointLoader.load_checkpoint(str(trained), 'cpu')
    assert weights['meta']['epoch'] == 1


def test_importing_the_backbone_changes_nothing_and_the_zoo_says_so(tmp_path):
    (tmp_path / 'script.py').write_text(
        'from mmengine.runner import CheckpointLoader\n'
        'before = dict(CheckpointLoader._schemes)\n'
        'import asvit_mm.models, asvit_mm.engine.hooks\n'
        'assert CheckpointLoader._schemes == before\n'
        'import asvit_mm.zoo\n'
        'assert {f.__name__ for f in CheckpointLoader._schemes.values()} == {"load_from_asvit_mm"}\n'
    )
    status, output = forked(['script.py'], tmp_path)
    assert status == 0, output
