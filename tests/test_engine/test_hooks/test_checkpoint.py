"""Trainings that are killed while a checkpoint is written, or while an epoch is validated."""

import time

import pytest
import torch
from mmengine.runner import Runner, ValLoop

from asvit_mm.checkpoints.reading import read_checkpoint
from asvit_mm.engine.hooks import checkpoint

from ...test_checkpoints.test_doors import CONFIG
from ...test_tools.runs import Here, write_images

VALIDATED = f"""{CONFIG}
custom_hooks = [dict(type='asvit_mm.EpochSeedHook')]
train_cfg.update(max_epochs=4)
val_dataloader, val_evaluator, val_cfg = test_dataloader, test_evaluator, dict()
default_hooks = dict(checkpoint=dict(
    type='CheckpointHook', interval=1, max_keep_ckpts=1, save_best='accuracy/top1', rule='greater'
))
randomness = dict(seed=0)
"""
TRAIN = ('train.py', 'config.py', '--work-dir')


@pytest.fixture
def here(monkeypatch, capsys, tmp_path):
    write_images(tmp_path)
    (tmp_path / 'config.py').write_text(VALIDATED)
    return Here(monkeypatch, capsys, tmp_path)


def weights(folder):
    return {path.name: read_checkpoint(str(path))['state_dict'] for path in folder.glob('*.pth')}


@pytest.mark.parametrize(
    ('owner', 'method'), [(Runner, 'save_checkpoint'), (ValLoop, 'run'), (Runner, 'call_hook')]
)
def test_killed_anywhere_it_ends_as_it_would_have(here, owner, method):
    here.run(*TRAIN, 'whole')
    expected = weights(here.folder / 'whole')
    assert len(expected) == 2
    whole = getattr(owner, method)
    for count in (2, 3, 4):
        calls = 0

        def stop(*args, count=count, **kwargs):
            nonlocal calls
            calls += method != 'call_hook' or args[1] == 'before_save_checkpoint'
            if calls == count:
                raise KeyboardInterrupt
            return whole(*args, **kwargs)

        with here.monkeypatch.context() as patch:
            patch.setattr(owner, method, stop)
            with pytest.raises(SystemExit) as stopped:
                here.run(*TRAIN, f'cut{count}')
        assert stopped.value.code == 130
        time.sleep(1)  # MMEngine names what a run keeps in the process by the second
        here.run(*TRAIN, f'cut{count}', '--resume')
        found = weights(here.folder / f'cut{count}')
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_a_checkpoint_that_is_cut_is_not_the_last_one(here):
    """Killed in the midst of writing the file."""

    def cut(checkpoint, filename, **settings):
        with open(filename, 'wb') as file:
            file.write(b'half')
        raise KeyboardInterrupt

    here.run(*TRAIN, 'w', '--cfg-options', 'train_cfg.max_epochs=2')
    with here.monkeypatch.context() as patch:
        patch.setattr('mmengine.runner.runner.save_checkpoint', cut)
        with pytest.raises(SystemExit):
            here.run(*TRAIN, 'w', '--resume')
    for path in (here.folder / 'w').glob('*.pth'):
        assert read_checkpoint(str(path))
    assert 'resumed epoch: 2' in here.run(*TRAIN, 'w', '--resume')


def test_killed_before_the_old_checkpoint_is_removed(here):
    whole = checkpoint.atomic_write_text

    def stop(path, text):
        whole(path, text)
        if text.endswith('epoch_2.pth'):
            raise KeyboardInterrupt

    with here.monkeypatch.context() as patch:
        patch.setattr(checkpoint, 'atomic_write_text', stop)
        with pytest.raises(SystemExit):
            here.run(*TRAIN, 'w')
    assert (here.folder / 'w' / 'epoch_1.pth').exists()
    here.run(*TRAIN, 'w', '--resume', '--cfg-options', 'train_cfg.max_epochs=3')
    assert [path.name for path in (here.folder / 'w').glob('epoch_*.pth')] == ['epoch_3.pth']


BY_ITERATIONS = (
    'custom_hooks = []\n'
    "train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=1)\n"
    'default_hooks.update(checkpoint=dict(default_hooks["checkpoint"], by_epoch=False))\n'
)


@pytest.mark.parametrize(('more', 'end'), [('', 'max_epochs'), (BY_ITERATIONS, 'max_iters')])
def test_what_was_validated_is_not_validated_again(here, more, end):
    """A scheduler that depends on the score would step twice."""
    (here.folder / 'config.py').write_text(VALIDATED + more)
    runs, whole = [], ValLoop.run

    def cut(loop):
        runs.append(loop.runner.iter)
        if len(runs) == 2:
            raise KeyboardInterrupt
        return whole(loop)

    def train(last, *more):
        here.run(*TRAIN, 'w', *more, '--cfg-options', f'train_cfg.{end}={last}')

    here.monkeypatch.setattr(ValLoop, 'run', cut)
    train(1)
    with pytest.raises(SystemExit):
        train(2, '--resume')
    train(2, '--resume')
    assert runs[0] < runs[1] == runs[2]
    assert len(runs) == 3
    logs = [path.read_text() for path in (here.folder / 'w').rglob('*.json')]
    assert logs
    assert not any('validated' in log for log in logs)
