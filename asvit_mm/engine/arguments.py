"""Settings of the training and testing tools, and running a tool from another; imports nothing heavy.

``mim`` runs a tool with ``-h`` first, so parsing must not wait for torch.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import InputError
from ..utils.command_line import option, positional


@dataclass(frozen=True, kw_only=True)
class RunnerSettings:
    """Settings of every tool that builds a Runner."""

    config: str = positional()
    """path of the config"""
    work_dir: str | None = None
    """folder for logs and checkpoints (default: ./work_dirs/<config name>)"""
    amp: bool = False
    """automatic mixed precision (GPU)"""
    no_pin_memory: bool = False
    """disable pin_memory in the data loaders"""
    no_persistent_workers: bool = False
    """disable persistent_workers in the data loaders"""
    cfg_options: Sequence[str] = option(default=(), metavar='KEY=VALUE')
    """override settings of the config: KEY=VALUE pairs with dotted keys, e.g. train_cfg.max_epochs=10. A list
    is key="[a,b]" or key=a,b, a dict key="dict(a=1)"; what has a | or @, as an architecture or a schedule, is
    a string, and so is key="'a,b'\""""
    launcher: Literal['none', 'pytorch', 'slurm', 'mpi'] = 'none'
    """job launcher"""
    # Versions of torch.distributed.launch, which gives it, differ in the hyphen.
    local_rank: int = option(default=0, aliases=('--local_rank',), help=argparse.SUPPRESS)


@dataclass(frozen=True, kw_only=True)
class TrainSettings(RunnerSettings):
    """Settings of training."""

    resume: str | None = option(default=None, nargs='?', const='auto', metavar='PATH')
    """resume from the checkpoint PATH, or from the latest one in the work dir (auto)"""
    no_validate: bool = False
    """train without validation"""
    auto_scale_lr: bool = False
    """scale the learning rate by the real batch over the config's base batch"""


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(RunnerSettings):
    """Settings of testing."""

    checkpoint: str = positional()
    """path of the checkpoint (.pth)"""
    out: str | None = None
    """write the metrics (.json) or the predictions (.pkl) here"""
    out_item: Literal['metrics', 'pred'] | None = None
    """what to write (default: by the suffix)"""
    # Absolute, or mmdet would put it into the work dir's subfolder of this run.
    show_dir: str | None = option(default=None, type=os.path.abspath)
    """folder for pictures of the predictions"""
    show: bool = False
    """show the predictions in a window"""
    interval: int = 1
    """picture every N-th sample (classification)"""
    wait_time: float = 2.0
    """seconds a window stays"""
    token_stride: int | None = option(default=None, metavar='N')
    """pixels between two tokens, for weights that were trained at several strides (default: those of the
    config)"""
    tta: bool = False
    """test-time augmentation: the config's tta_model and tta_pipeline, or else the mean over an image and its
    mirror image"""


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
