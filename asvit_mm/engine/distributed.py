"""Work spread over the processes of a launcher.

What trains shares nothing but a place to meet (:func:`find_share`, :func:`wait_for_all`): no process group
exists while it works, since MMEngine would split every data set over its members. What only measures has
one (:func:`start_processes`).
"""

import datetime
import os
from dataclasses import dataclass
from functools import cache

import torch
from mmengine import dist
from torch import distributed

from ..errors import InputError

# The first to arrive waits for the last one's whole work.
_TIMEOUT = datetime.timedelta(days=7)
# What each launcher of MMEngine puts into the environment.
_VARIABLES = {
    'pytorch': ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT'),
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'),
    'mpi': ('OMPI_COMM_WORLD_LOCAL_RANK', 'OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE'),
}
_STARTERS = {'pytorch': 'torchrun --nproc_per_node=2', 'slurm': 'srun', 'mpi': 'mpirun'}


@dataclass(frozen=True)
class Share:
    """Which process of how many this is; it takes every ``world_size``-th item from ``rank`` on."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    def of(self, num: int) -> range:
        """The items of ``num`` that are this process's."""
        return range(self.rank, num, self.world_size)

    def device(self, device: torch.device) -> torch.device:
        """The device of this process: 'cuda' without a number is shared out, one a local rank."""
        if device.type != 'cuda' or device.index is not None:
            return device
        return torch.device('cuda', self.local_rank % torch.cuda.device_count())


def start_processes(launcher: str, device: torch.device) -> None:
    """Make the processes that ``launcher`` started a group; nothing where it is 'none'.

    Args:
        launcher: MMEngine's name of it: 'none' or 'pytorch' (torchrun).
        device: where they compute, which decides how they talk (gloo, or nccl between GPUs).

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
    """Refuse a launcher that has not started this process.

    Args:
        launcher: MMEngine's name of it: 'none', 'pytorch' (torchrun), 'slurm' or 'mpi'.

    Raises:
        InputError: it has not.
    """
    missing = [name for name in _VARIABLES.get(launcher, ()) if name not in os.environ]
    if missing:
        raise InputError(
            f'--launcher {launcher} without {missing[0]} in the environment: start it by '
            f'{_STARTERS[launcher]} and the tool, or use --launcher none'
        )


def find_share(launcher: str) -> Share:
    """This process's share by the environment of ``launcher`` ('none' or 'pytorch': torchrun).

    Raises:
        InputError: not started by torchrun, or its variables hold no numbers.
    """
    if launcher == 'none':
        return Share()
    check_launcher(launcher)
    names = _VARIABLES['pytorch'][:3]
    try:
        rank, world_size, local_rank = (int(os.environ[name]) for name in names)
    except ValueError:
        values = ', '.join(f'{name}={os.environ[name]}' for name in names)
        raise InputError(f'{values} are no numbers: start it by torchrun') from None
    return Share(rank, world_size, local_rank)


def wait_for_all(share: Share, place: str) -> None:
    """Return when every process has called this with the same ``place``; at once where there is one.

    The processes meet in the launcher's key-value store: that needs no process group, hence no GPU
    of one's own and no network but the launcher's.
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
