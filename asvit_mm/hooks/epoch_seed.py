"""Random numbers that follow from the epoch, so that a resumed run draws those of an undisturbed one."""

import numpy as np
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner, set_random_seed

from ..errors import InputError
from ..registry import HOOKS


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seeds every epoch of training by its number: augmentation, dropout and the choice of proposals.

    MMEngine's checkpoints hold no state of random numbers, so without this hook a run that was killed and
    resumed draws others than it would have drawn. Its data loaders' workers start every epoch with the
    same numbers; with this hook they follow from the epoch, too.

    Raises:
        InputError: before training: iterations instead of epochs, or workers that outlive an epoch.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Refuse what cannot be seeded; let torch seed the workers from this process's numbers."""
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise InputError(
                'EpochSeedHook seeds epochs, and this run has iterations: leave it out'
            )
        loader = runner.train_dataloader
        if loader.persistent_workers:
            raise InputError(
                'EpochSeedHook: workers that outlive an epoch cannot be seeded; '
                'set train_dataloader.persistent_workers=False'
            )
        loader.worker_init_fn = None

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed this process; seeds, epochs and processes have numbers of their own."""
        mixed = np.random.SeedSequence([runner.seed, runner.epoch, get_rank()])
        set_random_seed(int(mixed.generate_state(1)[0]))
