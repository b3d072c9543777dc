"""Settings of an export; imports nothing heavy."""

import math
from dataclasses import dataclass
from typing import Literal

from ..errors import InputError
from ..utils.command_line import check_values, option, positional


@dataclass(frozen=True)
class ExportSettings:
    """What is exported, and what the written file is held to.

    Raises:
        InputError: a value that is not allowed.
    """

    config: str = positional()
    """path of a config, classification or detection; mmdet::FOLDER/NAME.py: one that mmdet ships"""
    checkpoint: str | None = positional(default=None)
    """its weights (default: random ones, for timing only)"""
    format: Literal['onnx', 'torch'] = 'onnx'
    """of the file: ONNX, or a program of torch.export"""
    output: Literal['logits', 'features'] | None = None
    """logits of a classifier, without softmax, or the backbone's feature maps (default: logits, if any)"""
    size: tuple[int, ...] | None = option(default=None, metavar='PIXELS')
    """of the image: a side, or height and width (default: a classifier's img_size)"""
    dynamic_size: bool = False
    """leave height and width free: multiples of what is printed; the batch is free in any case"""
    raw: bool = False
    """take RGB pixels of 0 to 255 and normalize them inside"""
    out: str | None = option(default=None, metavar='FILE')
    """.onnx or .pt2 (default: named after the config, in this folder)"""
    tolerance: float = 1e-4
    """largest difference from eager torch at which the file is kept"""
    batch_size: int = option(default=1, at_least=1, at_most=4096)
    """images of a call that is timed"""
    cfg_options: tuple[str, ...] = option(default=(), metavar='KEY=VALUE')
    """override settings of the config: dotted keys, as train_cfg.max_epochs=10 or key=a,b"""

    def __post_init__(self) -> None:
        check_values(self)
        if not (math.isfinite(self.tolerance) and self.tolerance > 0):
            raise InputError(f'--tolerance {self.tolerance} is not a number above 0')
