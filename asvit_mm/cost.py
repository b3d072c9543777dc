"""Numbers of parameters and multiply-adds in closed form.

Multiply-adds are those of matrix products (both products of attention included) and convolutions for one
image; norms, activations and softmax do not count. The GFLOPs published for As-ViT are multiply-adds, too.
Padding tokens of windows count, since they are computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .arch import BASE_STRIDE, NUM_STAGES, Architecture
from .token_schedule import Phase, all_strides, mean_cost
from .tokens import (
    ImageSize,
    as_pair,
    as_window_sizes,
    embedded,
    stage_sizes,
    window_count,
    window_length,
)


@dataclass(frozen=True)
class StageMacs:
    """Multiply-adds of one stage per image: patch embedding or merging, linear layers, attention."""

    tokenize: int
    linear: int
    attention: int

    @property
    def total(self) -> int:
        """Their sum."""
        return self.tokenize + self.linear + self.attention


def count_params(
    arch: Architecture,
    num_classes: int | None = None,
    *,
    in_channels: int = 3,
    img_size: ImageSize = 224,
    abs_pos_embed: bool = True,
    out_norms: Sequence[int] = (),
) -> int:
    """Number of parameters of a backbone, or of a classifier if ``num_classes`` is given.

    Args:
        num_classes: of the classifier, whose head is the output norm of stage 4, linear, tanh, linear; None:
            the backbone without output norms.
        img_size: determines the grid of the position embedding, one vector per token of the full grid.
        out_norms: stages (from 0) whose outputs a backbone returns, each with a norm; those behind the last
            are not built. Empty: all stages without norms.
    """
    widths = arch.widths
    # Patch embedding: weight, bias and norm.
    total = arch.kernels[0] ** 2 * in_channels * widths[0] + 3 * widths[0]
    if abs_pos_embed:
        height, width = as_pair(img_size)
        total += embedded(height, arch.stride) * embedded(width, arch.stride) * widths[0]
    last_stage = max(out_norms, default=NUM_STAGES - 1)
    for i, w in enumerate(widths[: last_stage + 1]):
        inner, hidden = arch.stage_heads[i] * arch.head_dims[i], arch.expansions[i] * w
        attention = w * 3 * inner + 3 * inner + inner * w + w
        feed_forward = w * hidden + hidden + hidden * w + w
        total += arch.depths[i] * (2 * 2 * w + attention + feed_forward)
        if i > 0:
            patch = arch.kernels[i] ** 2 * widths[i - 1]
            total += 2 * patch + patch * w  # patch merging: norm and weight
    if num_classes is None:
        return total + sum(2 * widths[i] for i in out_norms)
    last = widths[-1]
    return total + 2 * last + (last * last + last) + (last * num_classes + num_classes)


def stage_macs(
    arch: Architecture,
    img_size: ImageSize = 224,
    *,
    in_channels: int = 3,
    token_stride: int | None = None,
    token_projection: str = 'dilate',
    window_size: int | Sequence[int | None] | None = None,
    merge_rounding: str = 'up',
) -> tuple[StageMacs, ...]:
    """Multiply-adds per stage for one image of ``img_size`` pixels; the arguments are AsViT's.

    Args:
        token_stride: None: the architecture's.
    """
    fixed = as_window_sizes(window_size)
    result = []
    token_stride = token_stride or arch.stride
    enlarged = token_stride // arch.stride if token_projection == 'resize' else 1
    grids = token_grids(img_size, token_stride, merge_rounding)
    for i, (h, w) in enumerate(grids):
        width, split = arch.widths[i], arch.splits[i]
        inner, hidden = arch.stage_heads[i] * arch.head_dims[i], arch.expansions[i] * width
        window_h, window_w = (window_length(side, split, fixed[i]) for side in (h, w))
        windows = window_count(h, window_h) * window_count(w, window_w)
        tokens = windows * window_h * window_w
        channels = in_channels * enlarged**2 if i == 0 else arch.widths[i - 1]
        result.append(
            StageMacs(
                tokenize=h * w * arch.kernels[i] ** 2 * channels * width,
                linear=arch.depths[i] * tokens * (4 * width * inner + 2 * width * hidden),
                attention=arch.depths[i] * 2 * tokens * window_h * window_w * inner,
            )
        )
    return tuple(result)


def count_macs(
    arch: Architecture, img_size: ImageSize = 224, num_classes: int | None = None, **options: Any
) -> int:
    """Multiply-adds of one image; with ``num_classes`` including the classification head.

    Args:
        options: keyword arguments of :func:`stage_macs`.
    """
    width = arch.widths[-1]
    head = 0 if num_classes is None else width * width + width * num_classes
    return sum(stage.total for stage in stage_macs(arch, img_size, **options)) + head


def schedule_share(
    arch: Architecture,
    phases: Sequence[tuple[float, int] | Phase],
    img_size: ImageSize = 224,
    num_classes: int | None = None,
) -> float:
    """Multiply-adds of a training run in phases, relative to the same run at the full token grid.

    The backward pass costs about twice the forward pass at every stride, so the share of the forward pass is
    that of the whole step.

    Args:
        phases: of progressive tokenization, with increasing ends in any unit; (end, token stride) will do.
    """
    run = [phase if isinstance(phase, Phase) else Phase(*phase) for phase in phases]
    macs = {
        stride: float(count_macs(arch, img_size, num_classes, token_stride=stride))
        for stride in (arch.stride, *all_strides(run))
    }
    return mean_cost(run, macs, run[-1].end) / macs[arch.stride]


def token_grids(
    img_size: ImageSize = 224, token_stride: int = BASE_STRIDE, merge_rounding: str = 'up'
) -> tuple[tuple[int, int], ...]:
    """(height, width) of the token grid per stage."""
    sides = (stage_sizes(side, token_stride, merge_rounding) for side in as_pair(img_size))
    return tuple(zip(*sides, strict=True))
