"""Runs with random augmentation and dropout that are killed, resumed and compared bit for bit."""

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner, find_latest_checkpoint

from asvit_mm.errors import InputError

from .test_progressive_tokenization import MODEL, Bars, _loader, _runner

HOOK = dict(type='asvit_mm.EpochSeedHook')


class NoisyBars(Bars):
    """The bars, with noise of the three generators that augmentations draw from."""

    def __getitem__(self, i: int) -> dict[str, Any]:
        item = super().__getitem__(i)
        noise = torch.rand(3, 1, 1) + random.random() + np.random.rand()
        return {**item, 'inputs': item['inputs'] + noise}


class Images(Hook):
    """Keeps the images of every epoch, and kills the run before a step."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.kill_at = kill_at
        self.epochs: dict[int, list[torch.Tensor]] = {}

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter == self.kill_at:
            raise KeyboardInterrupt
        self.epochs.setdefault(runner.epoch, []).append(data_batch['inputs'].clone())


def _noisy(workers: int, **settings: Any) -> dict[str, Any]:
    return {**_loader(), 'dataset': NoisyBars(), 'num_workers': workers, **settings}


def _dropping() -> dict[str, Any]:
    model = copy.deepcopy(MODEL)
    model['backbone'].update(drop_rate=0.1, drop_path_rate=0.3)
    return model


def _weights(folder: Path) -> dict[str, Any]:
    return torch.load(find_latest_checkpoint(str(folder)), weights_only=False)['state_dict']


@pytest.mark.parametrize('workers', [0, 2])
def test_a_killed_run_resumed_draws_what_the_undisturbed_one_does(
    tmp_path: Path, workers: int
) -> None:
    settings = dict(
        model=_dropping(),
        train_dataloader=_noisy(workers),
        train_cfg=dict(by_epoch=True, max_epochs=3),
    )
    seen = Images()
    _runner(tmp_path / 'whole', HOOK, seen, **settings).train()
    with pytest.raises(KeyboardInterrupt):
        _runner(tmp_path / 'cut', HOOK, Images(kill_at=5), **settings).train()
    again = Images()
    _runner(tmp_path / 'cut', HOOK, again, resume=True, **settings).train()
    assert sorted(again.epochs) == [2]
    for one, other in zip(again.epochs[2], seen.epochs[2], strict=True):
        assert torch.equal(one, other)
    torch.testing.assert_close(
        _weights(tmp_path / 'cut'), _weights(tmp_path / 'whole'), rtol=0, atol=0
    )
    # What is added to the bars differs from image to image, and from epoch to epoch.
    offsets = [torch.cat(batches).amin((1, 2, 3)) for batches in seen.epochs.values()]
    assert len(torch.cat(offsets).unique()) == 3 * 16


def test_what_cannot_be_seeded_is_refused(tmp_path: Path) -> None:
    loader = _noisy(1, persistent_workers=True)
    with pytest.raises(InputError, match='persistent_workers=False'):
        _runner(tmp_path / 'a', HOOK, train_dataloader=loader).train()
    settings = dict(train_cfg=dict(by_epoch=False, max_iters=2), default_hooks={})
    with pytest.raises(InputError, match='this run counts iterations'):
        _runner(tmp_path / 'b', HOOK, **settings).train()
    with pytest.raises(InputError, match='needs a seed'):
        _runner(tmp_path / 'c', HOOK, randomness=dict(seed=None)).train()
    loader = _noisy(1, worker_init_fn=dict(type=print))
    with pytest.raises(InputError, match=r'remove train_dataloader\.worker_init_fn'):
        _runner(tmp_path / 'd', HOOK, train_dataloader=loader).train()
