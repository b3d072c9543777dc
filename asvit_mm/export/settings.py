"""Settings of an export; imports nothing heavy."""

import math
import sys
from dataclasses import dataclass
from typing import Literal

from ..errors import InputError
from ..utils.command_line import check_values, option, positional

TOLERANCE = 1e-4
ANY = sys.float_info.max


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
    format: Literal['onnx', 'onnx-int8', 'openvino', 'torch'] = 'onnx'
    """of the file: ONNX, ONNX with linear layers in 8 bits, OpenVINO, or a program of torch.export"""
    output: Literal['logits', 'features'] | None = None
    """logits of a classifier, without softmax, or the backbone's feature maps (default: logits, if any)"""
    size: tuple[int, ...] | None = option(default=None, metavar='PIXELS')
    """of the image: a side, or height and width (default: a classifier's img_size)"""
    dynamic_size: bool = False
    """leave height and width free: multiples of what is printed; the batch is free in any case"""
    raw: bool = False
    """take RGB pixels of 0 to 255 and normalize them inside"""
    out: str | None = option(default=None, metavar='FILE')
    """.onnx, .xml or .pt2 (default: named after the config, in this folder)"""
    tolerance: float | None = None
    """largest difference from eager torch at which the file is kept (default: 0.0001; with onnx-int8 any)"""
    evaluate: bool = False
    """test the written classifier and eager torch on the config's test set: top-1 of both"""
    batch_size: int = option(default=1, at_least=1, at_most=4096)
    """images of a call that is timed"""
    cfg_options: tuple[str, ...] = option(default=(), metavar='KEY=VALUE')
    """override settings of the config: dotted keys, as train_cfg.max_epochs=10 or key=a,b"""

    @property
    def allowed(self) -> float:
        """The tolerance; eight bits differ by as much as the weights make them."""
        if self.tolerance is not None:
            return self.tolerance
        return ANY if self.format == 'onnx-int8' else TOLERANCE

    def __post_init__(self) -> None:
        check_values(self)
        if self.tolerance is not None and not (
            math.isfinite(self.tolerance) and self.tolerance > 0
        ):
            raise InputError(f'--tolerance {self.tolerance} is not a number above 0')
