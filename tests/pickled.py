"""A checkpoint that runs something when it is read as a program."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


class Calls:
    """Pickled as a call of ``function``."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


def write_canary(path: Path) -> Path:
    """Write a checkpoint that makes the folder ``ran`` beside it when it is run; the path of that folder."""
    ran = path.with_name('ran')
    content = {'state_dict': {'a': torch.zeros(2)}, 'meta': {'epoch': 1, 'iter': 1}}
    torch.save({**content, 'extra': Calls(os.mkdir, str(ran))}, path)
    return ran
