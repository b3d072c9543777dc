"""Settings of an export; imports nothing heavy."""

import math
from dataclasses import dataclass

from simple_parsing import field

from ..engine.arguments import CFG_OPTIONS_HELP
from ..errors import InputError
from ..utils.command_line import positional, switch

FORMATS = ('onnx', 'torch')
OUTPUTS = ('logits', 'features')


@dataclass(frozen=True)
class ExportSettings:
    """What is exported, and what the written file is held to.

    Raises:
        InputError: a value that is not allowed.
    """

    config: str = positional(metavar='CONFIG')
    """path of a config, classification or detection; mmdet::FOLDER/NAME.py: one that mmdet ships"""
    checkpoint: str | None = positional(default=None, nargs='?', metavar='CHECKPOINT')
    """its weights (default: random ones, for timing only)"""
    format: str = field(default='onnx', choices=FORMATS)
    """of the file: ONNX, or a program of torch.export"""
    output: str | None = field(default=None, choices=OUTPUTS)
    """logits of a classifier, without softmax, or the backbone's feature maps (default: logits, if any)"""
    size: tuple[int, ...] | None = field(default=None, nargs='+', metavar='PIXELS')
    """of the image: a side, or height and width (default: a classifier's img_size)"""
    dynamic_size: bool = switch()
    """leave height and width free: multiples of what is printed; the batch is free in any case"""
    raw: bool = switch()
    """take RGB pixels of 0 to 255 and normalize them inside"""
    out: str | None = field(default=None, metavar='FILE')
    """.onnx or .pt2 (default: named after the config, in this folder)"""
    tolerance: float = 1e-4
    """largest difference from eager torch at which the file is kept"""
    batch_size: int = 1
    """images of a call that is timed"""
    cfg_options: tuple[str, ...] | None = field(
        default=None, nargs='+', action='extend', metavar='KEY=VALUE', help=CFG_OPTIONS_HELP
    )

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise InputError(f'--format {self.format!r} is not allowed: {" or ".join(FORMATS)}')
        if self.output not in (*OUTPUTS, None):
            raise InputError(f'--output {self.output!r} is not allowed: {" or ".join(OUTPUTS)}')
        if not (math.isfinite(self.tolerance) and self.tolerance > 0):
            raise InputError(f'--tolerance {self.tolerance} is not a number above 0')
        if self.batch_size < 1:
            raise InputError(f'--batch-size {self.batch_size} is too small: give at least 1')
