"""tools/write_config.py and what it prints, run: any network on one's own images or annotations."""

import shlex

import pytest
import torch
from mmengine.config import Config

import asvit_mm
from asvit_mm.errors import InputError
from asvit_mm.models import AsViT

from ..test_data.test_coco import write_set
from .runs import TOOLS, Here, write_images

TINY = '4,2,2,1|2,1,2,1|2,1,2,1|2,1,2,2|16,12'
ZOO = 'asvit-3.0m-10mf_b64-progressive_digits'
NO_WORKERS = ('train_dataloader.num_workers=0', 'val_dataloader.num_workers=0')


@pytest.fixture
def here(monkeypatch, capsys, tmp_path):
    write_images(tmp_path)
    for split in ('train', 'val'):
        write_set(tmp_path / 'coco', split)
    return Here(monkeypatch, capsys, tmp_path)


def printed_command(output):
    """The words of the command that trains, without the interpreter."""
    line = next(line for line in output.splitlines() if line.startswith('train '))
    return shlex.split(line.removeprefix('train'))[1:]


@pytest.mark.slow
@pytest.mark.parametrize('epochs', [1, 4])
def test_a_classifier_trains_by_the_printed_command_for_any_length(here, epochs):
    output = here.run('write_config.py', TINY, '--data', 'images')
    command = printed_command(output)
    assert command[0] == str(TOOLS / 'train.py')
    options = (f'train_cfg.max_epochs={epochs}', *NO_WORKERS)
    here.run('train.py', *command[1:], '--work-dir', 'run', '--cfg-options', *options)
    kept = {path.name for path in (here.folder / 'run').glob('*.pth')}
    assert f'epoch_{epochs}.pth' in kept
    assert len(kept) == 2
    assert any(name.startswith('best_accuracy_top1') for name in kept)


@pytest.mark.slow
def test_a_detector_trains_by_the_printed_command(here):
    annotations = 'coco/annotations/instances_train.json'
    output = here.run(
        'write_config.py', TINY, '--data', annotations, '--task', 'detection', '--epochs', '1'
    )
    command = printed_command(output)
    here.run('train.py', *command[1:], '--work-dir', 'run', '--cfg-options', *NO_WORKERS)
    assert (here.folder / 'run' / 'epoch_1.pth').is_file()


@pytest.mark.slow
def test_weights_of_the_zoo_and_then_of_the_run_go_to_other_classes(here):
    data = ('--data', 'images', '--epochs', '1')
    here.run('write_config.py', ZOO, '--weights', 'zoo', *data, '--out', 'tuned.py')
    cfg = Config.fromfile('tuned.py')
    assert cfg.data_preprocessor.mean == [77.9] * 3  # the digits', as the weights expect
    assert cfg.model.head.num_classes == 2
    output = here.run('train.py', 'tuned.py', '--work-dir', 'run', '--cfg-options', *NO_WORKERS)
    assert '76 of 76 weights taken' in output
    written = asvit_mm.write_config(
        'tuned.py', data='coco/annotations/instances_train.json', weights='run/epoch_1.pth'
    )
    backbone = Config.fromfile(written).model.backbone
    assert backbone.init_cfg.checkpoint == str(here.folder / 'run' / 'epoch_1.pth')
    assert backbone.init_cfg.prefix == 'backbone.'
    assert backbone.img_size == 32


def test_the_architecture_carries_its_stride(here):
    path = asvit_mm.write_config(f'{TINY}/2', data='images', out='fine.py')
    assert Config.fromfile(path).model.backbone.arch == f'{TINY}/2'


def trained(folder, channels, **preprocessor):
    """A config of a classifier, ``own.py``, and the weights of its backbone, ``own.pth``."""
    backbone = dict(type='asvit_mm.AsViT', arch=TINY, img_size=32, in_channels=channels)
    model = dict(backbone=backbone, data_preprocessor=preprocessor)
    (folder / 'own.py').write_text(f'model = {model}\ndata_preprocessor = dict(mean=[9], std=[8])')
    torch.save(AsViT(TINY, 32, channels).state_dict(), folder / 'own.pth')
    return 'own.py', '--data', 'images', '--weights', 'own.pth', '--out', 'new.py'


def test_the_normalization_is_what_the_model_was_trained_with(here):
    here.run('write_config.py', *trained(here.folder, 3, mean=[1, 2, 3], std=[4], to_rgb=True))
    cfg = Config.fromfile('new.py')
    assert (cfg.data_preprocessor.mean, cfg.data_preprocessor.std) == ([1, 2, 3], [4])
    bgr = trained(here.folder, 3, mean=[1, 2, 3], std=[4, 5, 6])
    assert 'were BGR' in here.refusal('write_config.py', *bgr, '--overwrite')


def test_the_data_decide_the_channels(here):
    words = trained(here.folder, 1, mean=[2], std=[3])
    refusal = here.refusal('write_config.py', *words)
    assert 'takes images of 1 channels, and the data have 3' in refusal
    here.run('write_config.py', *words[:3], '--out', 'new.py')
    assert 'in_channels' not in Config.fromfile('new.py').model.backbone


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['medium', '--data', 'images'], "'medium' is neither an architecture string nor a preset"),
        ([TINY, '--data', 'absent'], "no data at 'absent'"),
        ([TINY, '--data', 'images', '--task', 'detection'], 'has no boxes'),
        ([TINY, '--data', 'images', '--classes', 'cat'], '--classes is for a detector'),
        ([TINY, '--data', 'images', '--out', 'there.txt'], 'ends in .py'),
        ([TINY, '--data', 'images', '--out', 'there.py'], 'give --overwrite'),
        ([TINY, '--data', 'images', '--weights', 'absent.pth'], 'does not exist'),
        ([TINY, '--data', 'images', '--weights', 'zoo'], 'the zoo has no'),
        (['there.py', '--data', 'images'], 'has no AsViT backbone'),
        ([TINY, '--data', 'digits', '--epochs', '3'], 'recipe of its own'),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(here, arguments, message):
    (here.folder / 'there.py').write_text("model = dict(backbone=dict(type='ResNet'))\n")
    before = sorted(here.folder.rglob('*.py'))
    assert message in here.refusal('write_config.py', *arguments)
    assert sorted(here.folder.rglob('*.py')) == before


def test_boxes_and_classification_do_not_go_together(here):
    annotations = 'coco/annotations/instances_train.json'
    with pytest.raises(InputError, match='has boxes'):
        asvit_mm.write_config(TINY, data=annotations, task='classification')
    with pytest.raises(InputError, match='--progressive is for a classifier'):
        asvit_mm.write_config(TINY, data=annotations, progressive=True)
