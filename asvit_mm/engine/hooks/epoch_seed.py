"""Random numbers that follow from the epoch, so that a resumed run draws those of an undisturbed one."""

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
    """Seeds every epoch of training by its number: augmentation, dropout and the choice of proposals.

    MMEngine's checkpoints hold no state of random numbers, so without this hook a run that was killed and
    resumed draws others than it would have drawn. Its data loaders' workers start every epoch with the
    same numbers; with this hook they follow from the epoch, too.

    Raises:
        InputError: before training: a run without a seed of its own or of iterations instead of epochs,
            workers that outlive an epoch or that have a function of their own to seed them.
    """

    priority = 'VERY_HIGH'

    def before_run(self, runner: Runner) -> None:
        """Refuse a run without a seed: what is resumed would be shuffled by another one."""
        if runner._randomness_cfg.get('seed') is None:
            raise InputError('EpochSeedHook needs a seed: set randomness.seed in the config')

    def before_train(self, runner: Runner) -> None:
        """Refuse what cannot be seeded."""
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            raise InputError(
                'EpochSeedHook seeds epochs, and this run has iterations: leave it out'
            )
        loader = runner.train_dataloader
        if loader.persistent_workers:
            raise InputError(
                'EpochSeedHook: workers that outlive an epoch cannot be seeded; '
                'set train_dataloader.persistent_workers=False'
            )
        init = loader.worker_init_fn
        if init is not None and getattr(init, 'func', None) is not worker_init_fn:
            raise InputError(
                'EpochSeedHook seeds the workers: remove train_dataloader.worker_init_fn'
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed this process and its workers; seeds, epochs and processes have numbers of their own."""
        mixed = np.random.SeedSequence([runner.seed, runner.epoch, get_rank()])
        seed = int(mixed.generate_state(1)[0]) >> 1  # workers add their numbers to it
        set_random_seed(seed)
        init = runner.train_dataloader.worker_init_fn
        if init is not None:
            runner.train_dataloader.worker_init_fn = partial(
                init.func, **{**init.keywords, 'seed': seed}
            )
