"""Runs of a detector that are cut off and resumed, or shared by two processes."""

import json

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from .small_detector import TRAIN, options, place
from .test_coco_configs import SCENES
from .test_tools.runs import Here, ended, torchrun

# What each of two processes records, written to its rank's file.
RECORDER = """
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class Recorder(Hook):
    priority = 'LOWEST'

    def before_train(self, runner):
        self.images = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.images += [sample.img_id for sample in data_batch['data_samples']]

    def after_train(self, runner):
        weights = runner.model.module.state_dict()
        torch.save({'images': self.images, 'weights': weights}, f'{torch.distributed.get_rank()}.pth')
"""


@HOOKS.register_module()
class StopBefore(Hook):
    """Interrupts training before a step, as Ctrl-C does."""

    def __init__(self, step):
        self.step = step

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.step:
            raise KeyboardInterrupt


@pytest.fixture
def here(monkeypatch, capsys, tmp_path, scenes):
    place(scenes, tmp_path)
    return Here(monkeypatch, capsys, tmp_path)


@pytest.mark.slow
def test_a_run_cut_off_and_resumed_equals_the_undisturbed_one(here):
    """Stopped in the second epoch, it goes on from the first's checkpoint, in everything that is random."""
    cfg = Config.fromfile(SCENES)
    cfg.custom_hooks = [
        dict(type='StopBefore', step=-1),
        dict(type='asvit_mm.EpochSeedHook'),
    ]
    cfg.dump('hooked.py')

    def run(name, folder, *args, step=-1):
        more = ['train_cfg.max_epochs=2', f'custom_hooks.0.step={step}']
        return here.run(
            *('train.py', 'hooked.py', '--work-dir', folder, '--no-validate', *args),
            *options(name, *more),
        )

    run('whole', 'whole')
    with pytest.raises(SystemExit) as stopped:
        run('cut', 'cut', step=3)
    assert stopped.value.code == 130
    assert (here.folder / 'cut/last_checkpoint').read_text().endswith('epoch_1.pth')
    before = set((here.folder / 'cut').glob('*/vis_data/scalars.json'))
    run('resumed', 'cut', '--resume')
    (scalars,) = set((here.folder / 'cut').glob('*/vis_data/scalars.json')) - before
    steps = [json.loads(line) for line in scalars.read_text().splitlines()]
    assert [step['step'] for step in steps if 'loss' in step] == [3, 4]
    whole, resumed = (
        torch.load(here.folder / folder / 'epoch_2.pth', weights_only=False)
        for folder in ('whole', 'cut')
    )
    for part in ('state_dict', 'optimizer'):
        torch.testing.assert_close(resumed[part], whole[part], rtol=0, atol=0)


@pytest.mark.slow
def test_two_processes_share_the_images_and_keep_the_same_weights(here, monkeypatch):
    (here.folder / 'recorder.py').write_text(RECORDER)
    monkeypatch.setenv('PYTHONPATH', str(here.folder))
    cfg = Config.fromfile(SCENES)
    cfg.custom_hooks = [dict(type='Recorder')]
    cfg.dump('hooked.py')
    args = ['hooked.py', '--work-dir', 'run', '--no-validate']
    small = options('two', 'train_dataloader.batch_size=1', 'custom_imports.imports=[recorder]')
    status, out, err = ended(torchrun('train.py', *args, *small, cwd=here.folder))
    assert status == 0, out + err
    first, second = (torch.load(f'{rank}.pth', weights_only=True) for rank in range(2))
    assert sorted(first['images'] + second['images']) == list(range(TRAIN))
    torch.testing.assert_close(first['weights'], second['weights'], rtol=0, atol=0)
