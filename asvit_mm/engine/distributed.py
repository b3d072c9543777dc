"""Distributing work over the processes of a launcher.

Jobs that only measure have a process group (:func:`start_processes`). Studies that train in each process
synchronise at barriers (:func:`wait_for_all`) without one: MMEngine would split every data set over its
members.
"""

import datetime
import os
from dataclasses import dataclass
from functools import cache

import torch
from mmengine import dist
from torch import distributed

from ..errors import InputError

# The first process at a barrier waits for all the work of the last one.
_TIMEOUT = datetime.timedelta(days=7)
# By MMEngine's launcher: the command that starts processes, and the environment variables that it sets.
_LAUNCHERS = {
    'none': ('', ''),
    'pytorch': (
        'torchrun --nproc_per_node=2',
        'RANK WORLD_SIZE LOCAL_RANK MASTER_ADDR MASTER_PORT',
    ),
    'slurm': ('srun', 'SLURM_PROCID SLURM_NTASKS SLURM_NODELIST'),
    'mpi': ('mpirun', 'OMPI_COMM_WORLD_LOCAL_RANK OMPI_COMM_WORLD_RANK OMPI_COMM_WORLD_SIZE'),
}


@dataclass(frozen=True)
class Share:
    """The part of the work that this process does: every ``world_size``-th item, from ``rank`` on."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    def of(self, num: int) -> range:
        """The indices, of ``num`` items, of those that this process handles."""
        return range(self.rank, num, self.world_size)

    def device(self, device: torch.device) -> torch.device:
        """The device of this process: 'cuda' without an index becomes one GPU per local rank."""
        if device.type != 'cuda' or device.index is not None:
            return device
        return torch.device('cuda', self.local_rank % torch.cuda.device_count())


def start_processes(launcher: str, device: torch.device) -> None:
    """Initialise the process group, gloo for the CPU and nccl for GPUs; no-op for launcher 'none'.

    Args:
        launcher: 'none' or 'pytorch' (torchrun), as MMEngine names them.

    Raises:
        InputError: not started by torchrun, or more processes than GPUs.
    """
    if launcher == 'none' or dist.is_distributed():
        return
    find_share(launcher)
    if device.type == 'cpu':
        # MMEngine's init_dist chooses a GPU in any case.
        distributed.init_process_group('gloo', timeout=_TIMEOUT)
        return
    gpus = torch.cuda.device_count()
    if int(os.environ.get('LOCAL_WORLD_SIZE', 1)) > gpus:
        raise InputError(f'more processes than the {gpus} GPUs of this machine: start fewer')
    dist.init_dist(launcher, 'nccl', timeout=_TIMEOUT.total_seconds())


def check_launcher(launcher: str) -> None:
    """Check that ``launcher`` ('none', 'pytorch', 'slurm' or 'mpi') has started this process.

    Raises:
        InputError: a variable that it sets is missing from the environment.
    """
    command, variables = _LAUNCHERS[launcher]
    for name in variables.split():
        if name not in os.environ:
            raise InputError(
                f'--launcher {launcher} without {name} in the environment: start it by {command} and the '
                'tool, or use --launcher none'
            )


def find_share(launcher: str) -> Share:
    """This process's share, from the environment of ``launcher``: 'none' or 'pytorch' (torchrun).

    Raises:
        InputError: not started by torchrun, or its variables hold no numbers.
    """
    if launcher == 'none':
        return Share()
    check_launcher(launcher)
    names = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK')
    try:
        rank, world_size, local_rank = (int(os.environ[name]) for name in names)
    except ValueError:
        values = ', '.join(f'{name}={os.environ[name]}' for name in names)
        raise InputError(f'{values} are no numbers: start it by torchrun') from None
    return Share(rank, world_size, local_rank)


def wait_for_all(share: Share, place: str) -> None:
    """A barrier named ``place``: return when every process has reached it.

    It uses the launcher's key-value store, which needs neither a process group nor a GPU per process.
    """
    if share.world_size == 1:
        return
    store = _store(share)
    if store.add(f'{place}/arrived', 1) == share.world_size:
        store.set(f'{place}/all', '1')
    store.wait([f'{place}/all'], _TIMEOUT)


@cache
def _store(share: Share) -> distributed.Store:
    store, _, _ = next(
        distributed.rendezvous(
            'env://', rank=share.rank, world_size=share.world_size, timeout=_TIMEOUT
        )
    )
    return store
