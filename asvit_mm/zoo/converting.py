"""Checkpoints of this project in the form that other code bases read."""

import io
import os
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..arch import as_architecture
from ..checkpoints.reading import check_fit, read_checkpoint, select_weights
from ..errors import InputError
from ..models.asvit import AsViT
from ..ops.resample import resample_positions
from ..utils.files import atomic_write_bytes

POSITIONS = 'pos_embed'


def to_detectron2(
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    arch: str,
    *,
    img_size: Any = None,
    prefix: str = 'backbone.bottom_up.',
) -> Path:
    """Write the backbone of a checkpoint as Detectron2's checkpointer reads it: ``{'model': weights}``.

    The checkpointer refuses what else a checkpoint of a run holds, and skips weights of another shape with no
    more than a warning. So they are held against the architecture here, and the position embedding is
    resampled. Splits and stride leave no trace in shapes: they are compared where the checkpoint has the
    config of its run.

    Args:
        checkpoint: of a classifier, detector or segmentor with the backbone, or of the backbone alone.
        arch: the backbone's, as AsViT takes it.
        img_size: the ``img_size`` of the model that will read it, which is the position embedding's; None:
            that of the checkpoint.
        prefix: of the backbone in the model: ``'backbone.'`` without a feature pyramid.

    Returns:
        the path of the file.

    Raises:
        InputError: a checkpoint that cannot be read or is of another architecture, or a file that cannot be
            written.
    """
    content = read_checkpoint(checkpoint)
    weights = select_weights(content, 'backbone.') or select_weights(content, '')
    _check_architecture(content, arch, str(checkpoint))
    positions = weights.get(POSITIONS)
    if img_size is None and positions is not None and positions.ndim == 4:
        stride = as_architecture(arch).stride
        img_size = [stride * side for side in positions.shape[1:3]]
    with torch.device('meta'):
        model = AsViT(
            arch,
            img_size=224 if img_size is None else img_size,
            out_indices=(0, 1, 2, 3),
            use_abs_pos_embed=positions is not None,
        )
    check_fit(model, weights, str(checkpoint), optional=['norm'], resampled=POSITIONS)
    if model.pos_embed is not None and positions is not None:
        weights[POSITIONS] = resample_positions(positions.float(), *model.pos_embed.shape[1:3])
    # Copies, or the storage that a tensor shares with others would be written as well.
    model_weights: dict[str, Tensor] = {
        prefix + name: value.detach().clone() for name, value in weights.items()
    }
    buffer = io.BytesIO()
    torch.save({'model': model_weights}, buffer)
    try:
        return atomic_write_bytes(out, buffer.getvalue())
    except OSError as error:
        raise InputError(
            f'{str(out)!r} cannot be written ({error.strerror}): name another'
        ) from None


def _check_architecture(content: dict[str, Any], arch: str, name: str) -> None:
    """Compare with the one AsViT of the config, as text, that MMEngine keeps in the checkpoints of a run."""
    text = str((content.get('meta') or {}).get('cfg', ''))
    own = (
        set(re.findall(r"\barch='([^']*)'", text)) if text.count("'asvit_mm.AsViT'") == 1 else set()
    )
    if len(own) == 1 and as_architecture(found := own.pop()) != as_architecture(arch):
        raise InputError(
            f'{name!r} does not fit --arch {arch}: by its config it is of {found}: give that'
        )
