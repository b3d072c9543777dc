"""Pictures of what a detector finds."""

import os
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from mmdet.structures import DetDataSample

from ..report.figure import figure

COLUMNS = 4


def plot_detections(
    images: Sequence[np.ndarray],
    samples: Sequence[DetDataSample],
    classes: Sequence[str],
    path: str | os.PathLike[str],
    *,
    score: float = 0.5,
) -> Path:
    """Images with the boxes, masks, classes and scores of what was found in them, written to ``path``.

    Args:
        images: uint8 (H, W, 3), RGB.
        samples: mmdet's predictions for them.
        classes: names of the classes.
        score: what is less certain is left out.
    """
    rows = -(-len(images) // COLUMNS)
    with figure(path, rows, COLUMNS, (3 * COLUMNS, 3 * rows)) as axes:
        for axis in axes.flat:
            axis.axis('off')
        for axis, image, sample in zip(axes.flat, images, samples, strict=False):
            axis.imshow(image)
            _draw(axis, sample, classes, score)
    return Path(path)


def _draw(axis: Axes, sample: DetDataSample, classes: Sequence[str], score: float) -> None:
    found = sample.pred_instances
    found = found[found.scores > score].cpu().numpy()
    colours = [mpl.colormaps['tab10'](i)[:3] for i in range(10)]
    for i, (box, label) in enumerate(zip(found.bboxes, found.labels, strict=True)):
        colour = colours[label % len(colours)]
        if 'masks' in found:
            overlay = np.zeros((*found.masks[i].shape, 4))
            overlay[found.masks[i].astype(bool)] = (*colour, 0.5)
            axis.imshow(overlay)
        left, top, right, bottom = box
        size = right - left, bottom - top
        axis.add_patch(Rectangle((left, top), *size, fill=False, edgecolor=colour, lw=1.5))
        axis.text(
            left,
            top,
            f'{classes[label]} {found.scores[i]:.2f}',
            fontsize=7,
            color='white',
            va='bottom',
            clip_on=True,
            bbox=dict(facecolor=colour, edgecolor='none', pad=1),
        )
