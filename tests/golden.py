"""Reference figures of the published algorithm in float64, and the weights that reproduce them."""

import json
import math
import re
import zlib
from pathlib import Path

import torch

from asvit_mm.models import AsViT

ENTRIES = json.loads((Path(__file__).parent / 'reference_figures.json').read_text())

RENAMES = (
    (r'^norm3\.', 'norm.'),
    (r'^stages\.(\d)\.merging\.', lambda m: f'layers.{int(m[1]) - 1}.downsample.'),
    (r'^stages\.', 'layers.'),
    (r'\.norm2\.', '.mlps.0.0.'),
    (r'\.ffn\.', '.mlps.0.1.'),
)


def published_name(name: str) -> str:
    """The published code's name of one of our backbone's parameters."""
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def golden_tensor(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The reference weight of the published ``name``, float32 arithmetic, cast to float64."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    value = torch.randn(shape, generator=generator)
    if name.endswith('bias'):
        value = 0.1 * value
    elif value.ndim == 1:
        value = 1 + 0.1 * value
    else:
        value = value * math.prod(shape[1:]) ** -0.5
    return value.double()


def golden_backbone(entry: dict, *, norm_cfg: dict | None, reset_norms: bool = False) -> AsViT:
    """Our backbone with an entry's weights in float64."""
    model = AsViT(
        entry['arch'], img_size=entry['img_size'], use_abs_pos_embed=False, norm_cfg=norm_cfg
    ).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            published = published_name(name)
            if reset_norms and 'norm' in name:
                continue
            parameter.copy_(golden_tensor(published, tuple(parameter.shape)))
    return model.eval()
