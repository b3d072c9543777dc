"""What a config, its data or a checkpoint has wrong is one line that names the part, not a traceback."""

import re
import shutil

import pytest
import torch

from asvit_mm.engine.runner import latest_checkpoint
from asvit_mm.errors import InputError

from ..test_checkpoints.test_doors import CONFIG
from ..test_tools.runs import Here, ended, torchrun, write_images

AMP = "optim_wrapper.update(type='AmpOptimWrapper')"
WANDB = (
    "visualizer = dict(type='Visualizer', name='{0}', vis_backends=[dict(type='{0}VisBackend')])"
)
LISTED = """
train_dataloader['dataset'].update(data_root='images', data_prefix='train', ann_file='images.txt')
"""


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    write_images(tmp_path)
    (tmp_path / 'config.py').write_text(CONFIG)
    return Here(monkeypatch, capsys, tmp_path)


def refusal(here, lines, *args):
    (here.folder / 'config.py').write_text(f'{CONFIG}\n{lines}\n')
    return here.refusal('train.py', 'config.py', *args)


@pytest.mark.parametrize(
    ('lines', 'words'),
    [
        (
            "model['backbone']['type'] = 'asvit_mm.AsVit'",
            "model.backbone.type = 'asvit_mm.AsVit' is not known: did you mean 'AsViT'",
        ),
        ("model['type'] = 'ImageClasifier'", "model.type = 'ImageClasifier' .*'ImageClassifier'"),
        (
            "model['head']['num_clases'] = 2",
            r"model.head \(LinearClsHead\) has no setting 'num_clases': did you mean 'num_classes'\?",
        ),
        (
            "del model['head']['in_channels']",
            r"model.head \(LinearClsHead\) needs 'in_channels'",
        ),
        ("model['head']['in_channels'] = 100", 'training failed: RuntimeError: mat1 and mat2'),
        ("model['backbone']['arch'] = '8,2,3|4'", 'has 2 groups separated by'),
        ("model['head']['loss'] = dict(type='CrossEntropyLos')", 'model.head.loss.type .*EntropyLoss'),
        (
            "train_dataloader['dataset']['pipeline'][0]['type'] = 'LoadImageFromFil'",
            "train_dataloader.dataset.pipeline.0.type = 'LoadImageFromFil' .*'LoadImageFromFile'",
        ),
        ("train_dataloader['sampler']['type'] = 'DefaultSamplr'", 'sampler.type .*DefaultSampler'),
        ("optim_wrapper['optimizer']['type'] = 'SDG'", "optim_wrapper.optimizer.type = 'SDG'"),
        ("optim_wrapper['optimizer']['lrr'] = 1", r"optimizer \(SGD\) has no setting 'lrr': .*'lr'"),
        ("optim_wrapper['optimizer']['lr'] = 'a'", r'optim_wrapper.optimizer \(SGD\): TypeError'),
        ("param_scheduler = dict(type='CosineAnealingLR')", "type = .*'CosineAnnealingLR'"),
        ("custom_hooks = [dict(type='EMAHok')]", "custom_hooks.0.type = 'EMAHok' .*'EMAHook'"),
        ("train_cfg['max_epoch'] = 2", "train_cfg .* no setting 'max_epoch': .*'max_epochs'"),
        ('model = 3', 'model should be a nn.Module object or dict'),
        ("default_scope = 'mmpretrian'", 'needs mmpretrian, which is not installed'),
        ("optim_wraper = optim_wrapper; del optim_wrapper", "'optim_wraper'"),
        (AMP, 'trains with AmpOptimWrapper, which needs a GPU'),
        (WANDB.format('ClearML'), 'pip install clearml'),
        (WANDB.format('Wandb'), 'pip install wandb'),
        (WANDB.format('Wandbb'), "vis_backends.0.type = 'WandbbVisBackend' .*'WandbVisBackend'"),
        (
            "model['head']['num_classes'] = 1",
            r'has 2 classes \(above, below\), model.head has 1: set model.head.num_classes=2',
        ),
        ('x = 1 / 0', "'config.py' cannot be read: ZeroDivisionError"),
        ('work_dir = 3', 'work_dir = 3 of config.py is not the path of a folder'),
        ('train_dataloader = 3', 'training failed: '),
        ('default_scope = 3', 'training failed: '),
        ('optim_wrapper = [1]', 'training failed: '),
    ],
)  # fmt: skip
def test_mistakes_in_a_config(here, lines, words):
    if torch.cuda.is_available() and lines == AMP:
        pytest.skip('there is a GPU')
    said = refusal(here, lines)
    assert re.search(words, said), said
    assert len(said) < 500


def test_the_whole_traceback_is_kept(here):
    said = refusal(here, "model['type'] = 'ImageClasifier'")
    (kept,) = re.findall(r'\(traceback: (\S+)\)', said)
    assert 'Traceback (most recent call last)' in (here.folder / kept).read_text()


@pytest.mark.slow
def test_two_processes_that_fail_alike_say_so_once(here):
    """In the first step, after they have met."""
    (here.folder / 'config.py').write_text(f"{CONFIG}\nmodel['head']['in_channels'] = 100\n")
    status, _, errors = ended(torchrun('train.py', 'config.py', '--work-dir', 'w', cwd=here.folder))
    (said,) = [line for line in errors.splitlines() if line.startswith('error: ')]
    assert status != 0
    assert said.startswith('error: config.py: training failed: RuntimeError: mat1 and mat2')
    for name in ('traceback.txt', 'rank1_traceback.txt'):
        assert 'mat1 and mat2' in (here.folder / 'w' / name).read_text()


def test_more_classes_and_fields_that_nothing_reads_are_reported(here):
    (here.folder / 'config.py').write_text(
        f"{CONFIG}\nmodel['head']['num_classes'] = 3\ncustom_hoks = []\ntrain_cfg['max_epochs'] = 1\n"
        "default_hooks = dict(checkpoin=dict(type='CheckpointHook'), other=dict(type='IterTimerHook'))\n"
        'env_cfg = dict(cudnn_benchmar=True)\n'
        "default_hooks['visualization'] = dict(type='VisualizationHook', enable=False, enabled=True)\n"
    )
    said = here.run('train.py', 'config.py')
    assert 'model.head has 3: some are never trained' in said
    assert "nothing reads 'custom_hoks' of config.py: did you mean 'custom_hooks'?" in said
    assert "'default_hooks.checkpoin' of config.py: did you mean 'checkpoint'?" in said
    assert "'env_cfg.cudnn_benchmar' of config.py: did you mean 'cudnn_benchmark'?" in said
    assert "'default_hooks.visualization.enabled' of config.py: did you mean 'enable'?" in said
    assert said.count('did you mean') == 4


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('content', [None, b'', b'no image', 'half'])
def test_an_image_that_is_missing_or_damaged(here, workers, content):
    """The list of the images was made when all were there and whole."""
    images = sorted((here.folder / 'images/train').rglob('*.png'))
    names = (f'{path.parent.name}/{path.name} {path.parent.name == "below":d}' for path in images)
    (here.folder / 'images/images.txt').write_text('\n'.join(names))
    bad = images[3]
    if content is None:
        bad.unlink()
    else:
        bad.write_bytes(bad.read_bytes()[:40] if content == 'half' else content)
    said = refusal(here, f"{LISTED}train_dataloader['num_workers'] = {workers}")
    assert f"image 'images/train/{bad.parent.name}/{bad.name}' cannot be loaded" in said
    assert 'repair or remove it' in said


def test_a_work_dir_that_was_moved_or_copied_is_resumed(here):
    """last_checkpoint holds an absolute path of the time of training."""
    here.run('train.py', 'config.py', '--work-dir', here.folder / 'old')
    recorded = (here.folder / 'old/last_checkpoint').read_text()
    assert recorded.startswith('/')
    shutil.copytree(here.folder / 'old', here.folder / 'copy')
    assert latest_checkpoint(here.folder / 'copy') == str(here.folder / 'copy/epoch_2.pth')
    (here.folder / 'old').rename(here.folder / 'new')
    options = ['--cfg-options', 'train_cfg.max_epochs=3']
    said = here.run('train.py', 'config.py', '--work-dir', 'new', '--resume', *options)
    assert 'resumed epoch: 2' in said
    assert (here.folder / 'new/epoch_3.pth').exists()
    (here.folder / 'new/last_checkpoint').write_text('')
    for change, words in (('', 'is empty: give the checkpoint with --resume PATH'),
                          ('away.pth', "checkpoint 'away.pth' does not exist")):  # fmt: skip
        (here.folder / 'new/last_checkpoint').write_text(change)
        assert words in here.refusal('train.py', 'config.py', '--work-dir', 'new', '--resume')


def test_an_optimizer_whose_state_does_not_fit(here):
    here.run('train.py', 'config.py', '--work-dir', 'w', '--cfg-options', 'train_cfg.max_epochs=1')
    lines = "optim_wrapper['paramwise_cfg'] = dict(bias_lr_mult=2.0)"
    said = refusal(here, lines, '--work-dir', 'w', '--resume')
    assert 'holds another run (ValueError: loaded state dict has a different number' in said
    assert 'resume it with its own config' in said
    checkpoint = torch.load('w/epoch_1.pth', weights_only=False)
    for change, words in (
        ({'optimizer': [1]}, 'holds another run'),
        ({'message_hub': []}, 'holds another run'),
        ({'meta': {'epoch': '1', 'iter': 3}}, 'no run to resume'),
    ):
        torch.save({**checkpoint, **change}, 'w/odd.pth')
        assert words in refusal(here, '', '--work-dir', 'w', '--resume', 'w/odd.pth')


@pytest.mark.parametrize('name', ['epoch_1.pth', 'last_checkpoint', 'config.py'])
def test_links_in_a_work_dir_are_refused_and_nothing_is_changed(here, name):
    (here.folder / 'w').mkdir()
    (here.folder / 'kept').write_text('kept')
    (here.folder / 'w' / name).symlink_to(here.folder / 'kept')
    said = here.refusal('train.py', 'config.py', '--work-dir', 'w')
    assert f'w/{name} is a link, which is neither read nor written' in said
    assert (here.folder / 'kept').read_text() == 'kept'


def test_what_is_read_of_a_work_dir_is_a_file(tmp_path):
    (tmp_path / 'last_checkpoint').mkdir()
    with pytest.raises(InputError, match='cannot be read'):
        latest_checkpoint(tmp_path)
    assert latest_checkpoint(tmp_path / 'absent') is None
