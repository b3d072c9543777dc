"""Lengths as shares of the run: any number of epochs, resumed or not."""

import math

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import Runner
from torch import nn

from asvit_mm.engine.run_shares import EndMixingHook, WarmupCosineLR
from asvit_mm.errors import InputError


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)
        self.data_preprocessor.batch_augments = 'mixing'

    def forward(self, *inputs, mode='tensor'):
        return {'loss': self.layer(torch.stack(inputs)).mean()}


class Record(Hook):
    priority = 'VERY_LOW'

    def __init__(self):
        self.rates, self.mixed = [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.rates.append([group['lr'] for group in runner.optim_wrapper.param_groups[:2]])
        self.mixed.append(runner.model.data_preprocessor.batch_augments is not None)


def run(folder, epochs, *, resume=False, stop=None, hooks=()):
    model, record = Model(), Record()
    groups = [dict(params=[model.layer.weight], lr=1.0), dict(params=[model.layer.bias], lr=0.1)]
    runner = Runner(
        model,
        str(folder),
        train_dataloader=dict(
            dataset=[torch.ones(2)] * 6, batch_size=2, sampler=dict(type='DefaultSampler')
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=OptimWrapper(torch.optim.SGD(groups, lr=1.0)),
        param_scheduler=[
            dict(
                type='asvit_mm.WarmupCosineLR',
                warmup=0.25,
                eta_min_ratio=0.1,
                convert_to_iter_based=True,
            )
        ],
        custom_hooks=[record, *hooks],
        resume=resume,
        cfg=Config(dict()),
        experiment_name=f'{folder.name}{epochs}{resume}',
    )
    runner.train()
    return record


@pytest.mark.parametrize('epochs', [1, 2, 8, 40])
def test_any_number_of_epochs_warms_up_and_ends_low(tmp_path, epochs):
    rates = run(tmp_path, epochs).rates
    peak = max(first for first, _ in rates)
    assert 0.85 < peak <= 1.0
    assert rates[0][0] < 1 or epochs == 1
    assert 0.1 <= rates[-1][0] < rates[len(rates) // 2][0]
    for first, second in rates:  # every group by its own rate
        assert second == pytest.approx(first / 10)


def test_the_curve_is_a_cosine_between_its_ends():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    build = dict(type='asvit_mm.WarmupCosineLR', warmup=0.1, eta_min_ratio=0.01, end=10)
    scheduler = PARAM_SCHEDULERS.build(
        dict(build, convert_to_iter_based=True),
        default_args=dict(optimizer=optimizer, epoch_length=10),
    )
    assert scheduler.factor(9) == 1.0
    assert scheduler.factor(10) == 1.0
    assert scheduler.factor(55) == pytest.approx(0.01 + 0.99 / 2)
    assert scheduler.factor(100) == pytest.approx(0.01)
    assert math.isclose(optimizer.param_groups[0]['lr'], 2.0 / 10)


def test_a_resumed_run_has_the_same_rates(tmp_path):
    whole = run(tmp_path / 'whole', 4).rates
    (tmp_path / 'resumed').mkdir()
    checkpoint = tmp_path / 'whole' / 'epoch_2.pth'
    (tmp_path / 'resumed' / 'last_checkpoint').write_text(str(checkpoint))
    assert run(tmp_path / 'resumed', 4, resume=True).rates == whole[6:]


@pytest.mark.parametrize('epochs', [2, 10])
def test_mixing_ends_after_its_share(tmp_path, epochs):
    mixed = run(tmp_path, epochs, hooks=[EndMixingHook(0.5)]).mixed
    assert mixed == [True] * (3 * epochs // 2) + [False] * (3 * epochs // 2)


@pytest.mark.parametrize('shares', [dict(warmup=1.0), dict(eta_min_ratio=2), dict(warmup=-0.1)])
def test_what_is_no_share_is_refused(shares):
    with pytest.raises(InputError, match='numbers from 0 to 1'):
        WarmupCosineLR(torch.optim.SGD([torch.zeros(1)], lr=1.0), end=4, **shares)
    with pytest.raises(InputError, match='number from 0 to 1'):
        EndMixingHook(3)
