"""Phases with several strides, learning-rate factors and self-distillation, in real small runs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner, find_latest_checkpoint
from mmpretrain.registry import MODELS
from torch.nn import functional as F

from asvit_mm.errors import InputError

from .test_progressive_tokenization import (
    HOOK,
    LENET,
    MODEL,
    SGD,
    Recorder,
    _loader,
    _runner,
    in_two_processes,
)

STRIDES = [16, 8, 4]
ELASTIC = dict(type=HOOK, phases='16|8|4@1.0')
RESIZED = {**MODEL, 'backbone': {**MODEL['backbone'], 'token_projection': 'resize'}}
TAUGHT = {**RESIZED, 'type': 'asvit_mm.SelfDistilledClassifier'}


def _strides(folder: Path, hook: dict = ELASTIC, **settings: Any) -> list[int]:
    recorder = Recorder()
    runner = _runner(folder, hook, recorder, model=RESIZED, **settings)
    runner.train()
    assert set(recorder.val) == {4}
    assert runner.model.backbone.token_stride == 4
    return [stride for stride, _ in recorder.train]


def test_strides_follow_from_the_seed_and_the_weights(tmp_path: Path) -> None:
    long = dict(train_cfg=dict(by_epoch=True, max_epochs=30, val_interval=30))
    seen = _strides(tmp_path / 'a', **long)
    assert seen == _strides(tmp_path / 'b', **long)
    assert all(10 <= seen.count(stride) <= 30 for stride in STRIDES)
    assert seen != _strides(tmp_path / 'c', randomness=dict(seed=1), **long)
    phases = [dict(end=1.0, stride=STRIDES, weights=[1, 1, 18])]
    assert _strides(tmp_path / 'd', dict(type=HOOK, phases=phases), **long).count(4) >= 48


def test_elastic_phases_stand_beside_others(tmp_path: Path) -> None:
    seen = _strides(tmp_path, dict(type=HOOK, phases='16@1,16|8@5,4@6'))
    assert seen[:2] == [16, 16]
    assert set(seen[2:10]) == {16, 8}
    assert seen[10:] == [4, 4]


@pytest.mark.parametrize('model', [RESIZED, TAUGHT], ids=['plain', 'taught'])
def test_a_killed_run_resumed_equals_the_undisturbed_one(tmp_path: Path, model: dict) -> None:
    whole = Recorder()
    _runner(tmp_path / 'whole', ELASTIC, whole, model=model).train()
    with pytest.raises(KeyboardInterrupt):
        _runner(tmp_path / 'cut', ELASTIC, Recorder(kill_at=7), model=model).train()
    resumed = Recorder()
    _runner(tmp_path / 'cut', ELASTIC, resumed, model=model, resume=True).train()
    assert resumed.train == whole.train[6:]
    assert len(set(resumed.train)) > 1
    states = [
        torch.load(find_latest_checkpoint(str(tmp_path / name)), weights_only=False)
        for name in ('whole', 'cut')
    ]
    for part in ('state_dict', 'optimizer'):
        torch.testing.assert_close(states[0][part], states[1][part], rtol=0, atol=0)
    # The checkpoint is an ordinary model's.
    MODELS.build(MODEL).load_state_dict(states[0]['state_dict'], strict=True)


class Rates(Hook):
    """The learning rate of every step, after every other hook."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.rates: list[float] = []

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self.rates.append(runner.optim_wrapper.param_groups[0]['lr'])


def test_the_learning_rate_is_multiplied_and_its_schedule_goes_on(tmp_path: Path) -> None:
    settings = dict(
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, end=2, convert_to_iter_based=True),
            dict(type='CosineAnnealingLR', begin=2, end=6, convert_to_iter_based=True),
        ]
    )
    found = []
    for name, phases in (('plain', '16@2,8@4,4@6'), ('factors', '16*0.5@2,8@4,4*3@6')):
        rates = Rates()
        _runner(tmp_path / name, dict(type=HOOK, phases=phases), rates, **settings).train()
        found.append(rates.rates)
    expected = [
        rate * factor for rate, factor in zip(found[0], [0.5] * 4 + [1] * 4 + [3] * 4, strict=True)
    ]
    assert found[1] == pytest.approx(expected, rel=1e-12)
    states = [
        torch.load(find_latest_checkpoint(str(tmp_path / name)), weights_only=False)
        for name in ('plain', 'factors')
    ]
    assert states[0]['param_schedulers'] == states[1]['param_schedulers']


def test_phases_too_short_for_the_run_are_left_out(tmp_path: Path) -> None:
    recorder = Recorder()
    runner = _runner(tmp_path, dict(type=HOOK, phases='16@0.05,8@0.5,4@1.0'), recorder)
    for logger in (runner.logger, *runner.logger.handlers):
        logger.setLevel('WARNING')
    runner.train()
    assert [stride for stride, _ in recorder.train] == [8] * 6 + [4] * 6
    assert '1 of the phases would last less' in next(tmp_path.glob('*/*.log')).read_text()


def test_the_full_grid_teaches_the_coarse_one() -> None:
    torch.manual_seed(0)
    model = MODELS.build({**TAUGHT, 'distill_weight': 0.3}).train()
    plain = MODELS.build(RESIZED).train()
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        for parameter in (*model.parameters(), *plain.parameters()):
            parameter.mul_(1.5)
    images, samples = torch.randn(4, 3, 32, 32), _loader()['dataset']
    samples = [samples[i]['data_samples'] for i in range(4)]
    assert torch.equal(model.loss(images, samples)['loss'], plain.loss(images, samples)['loss'])
    with torch.no_grad():
        target = plain(images).softmax(-1)
    for one in (model, plain):
        one.backbone.set_token_stride(8)
    losses, own = model.loss(images, samples), plain.loss(images, samples)['loss']
    assert model.training
    assert model.backbone.token_stride == 8
    divergence = F.kl_div(plain(images).log_softmax(-1), target, reduction='batchmean')
    assert divergence > 1e-4
    torch.testing.assert_close(losses['loss'], 0.7 * own)
    torch.testing.assert_close(losses['loss_distill'], 0.3 * divergence)
    # Nothing flows through the teacher: the gradient is that with a fixed target.
    sum(losses.values()).backward()
    (0.7 * own + 0.3 * divergence).backward()
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_mixed_precision_trains_every_weight() -> None:
    model = MODELS.build(TAUGHT).train()
    model.backbone.set_token_stride(8)
    samples = [_loader()['dataset'][i]['data_samples'] for i in range(2)]
    with torch.autocast('cpu', torch.bfloat16):
        losses = model.loss(torch.randn(2, 3, 32, 32), samples)
    sum(losses.values()).backward()
    assert [name for name, value in model.named_parameters() if value.grad is None] == []


@pytest.mark.parametrize(
    ('changes', 'message'),
    [(dict(distill_weight=2), 'from 0 to 1'), (LENET, 'token grid of LeNet5 cannot change')],
)
def test_what_cannot_be_taught_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        MODELS.build({**TAUGHT, **changes, 'type': TAUGHT['type']})


@pytest.mark.slow
def test_two_processes_draw_the_same_strides(tmp_path: Path) -> None:
    # Each process draws its own augmentations, but the common strides.
    settings = dict(model=RESIZED, randomness=dict(seed=0, diff_rank_seed=True))
    strides, _ = in_two_processes(tmp_path, ELASTIC, **settings)
    assert set(strides) == set(STRIDES)
    assert strides == _strides(tmp_path / 'one', optim_wrapper=SGD)
