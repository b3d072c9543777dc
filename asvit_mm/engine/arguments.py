"""Command-line arguments shared by the training and testing tools; imports nothing heavy.

``mim`` runs a tool with ``-h`` first, so parsing must not wait for torch.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from ..errors import InputError

CFG_OPTIONS_HELP = (
    'override settings of the config: KEY=VALUE pairs with dotted keys, e.g. '
    'train_cfg.max_epochs=10. A list is key="[a,b]" or key=a,b, a dict key="dict(a=1)"; what has a | or @, '
    'as an architecture or a schedule, is a string, and so is key="\'a,b\'"'
)


def add_runner_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of every tool that builds a Runner."""
    parser.add_argument(
        '--work-dir', help='folder for logs and checkpoints (default: ./work_dirs/<config name>)'
    )
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision (GPU)')
    parser.add_argument(
        '--no-pin-memory', action='store_true', help='disable pin_memory in the data loaders'
    )
    parser.add_argument(
        '--no-persistent-workers',
        action='store_true',
        help='disable persistent_workers in the data loaders',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE', help=CFG_OPTIONS_HELP
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher (default: none)',
    )
    # Versions of torch.distributed.launch differ in the hyphen.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def export_local_rank(args: argparse.Namespace) -> None:
    """Pass ``--local_rank`` on to MMEngine, unless the launcher has set it already."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))


def run_tool(title: str, script: Path, *arguments: object) -> float:
    """Run a tool in a subprocess, under a printed title; returns its wall time in seconds.

    Raises:
        InputError: the tool failed; it has printed the reason.
    """
    name = Path('tools', *script.parts[script.parts.index('tools') + 1 :]).as_posix()
    print(f'\n=== {title}\n$ python {name} {" ".join(map(str, arguments))}', flush=True)
    started = time.perf_counter()
    status = subprocess.run([sys.executable, str(script), *map(str, arguments)]).returncode
    if status:
        raise InputError(f'{name} ended with status {status}; see above')
    return time.perf_counter() - started
