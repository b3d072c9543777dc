"""Seeding each epoch, so that a resumed run draws the same random numbers as an uninterrupted one."""

from functools import partial

import numpy as np
from mmengine.dataset import worker_init_fn
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner, set_random_seed

from ...errors import InputError
from ...registry import HOOKS


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seeds augmentation, dropout and the sampling of proposals from the number of the epoch.

    MMEngine's checkpoints do not hold the state of random number generators, so without this hook a run that
    is killed and resumed differs from an uninterrupted one. MMEngine also seeds the workers of data loaders
    alike in every epoch; this hook seeds them differently.

    Raises:
        InputError: before training: no ``randomness.seed``, a run that counts iterations, persistent
            workers, or a ``worker_init_fn`` other than MMEngine's.
    """

    priority = 'VERY_HIGH'

    def before_run(self, runner: Runner) -> None:
        """Require a seed: without one a resumed run would shuffle differently."""
        if runner._randomness_cfg.get('seed') is None:
            raise InputError('EpochSeedHook needs a seed: set randomness.seed in the config')

    def before_train(self, runner: Runner) -> None:
        """Refuse loops and data loaders whose epochs cannot be seeded."""
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            raise InputError(
                'EpochSeedHook seeds epochs, but this run counts iterations: leave it out'
            )
        loader = runner.train_dataloader
        if loader.persistent_workers:
            raise InputError(
                'EpochSeedHook: persistent workers cannot be seeded in every epoch; '
                'set train_dataloader.persistent_workers=False'
            )
        init = loader.worker_init_fn
        if init is not None and getattr(init, 'func', None) is not worker_init_fn:
            raise InputError(
                'EpochSeedHook seeds the workers: remove train_dataloader.worker_init_fn'
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed this process and its workers from the run's seed, the epoch and the rank."""
        mixed = np.random.SeedSequence([runner.seed, runner.epoch, get_rank()])
        seed = int(mixed.generate_state(1)[0]) >> 1  # workers add their numbers to it
        set_random_seed(seed)
        init = runner.train_dataloader.worker_init_fn
        if init is not None:
            runner.train_dataloader.worker_init_fn = partial(
                init.func, **{**init.keywords, 'seed': seed}
            )
