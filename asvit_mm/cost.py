"""Parameters and multiply-adds in closed form: the one place that counts.

Multiply-adds are those of matrix products and convolutions, attention's two products included, for
one image; norms, activations and softmax are not counted. Published GFLOPs of this family are
multiply-adds too. Tokens that only pad a window are counted: they are computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from .arch import Architecture
from .token_schedule import Phase, mean_cost
from .tokens import (
    BASE_STRIDE,
    as_pair,
    as_window_sizes,
    embedded,
    stage_sizes,
    window_count,
    window_length,
)


@dataclass(frozen=True)
class StageMacs:
    """Multiply-adds of one stage, one image: its embedding or merging, linear layers, attention."""

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
    img_size: int | Sequence[int] = 224,
    abs_pos_embed: bool = True,
    out_norms: Sequence[int] = (),
) -> int:
    """Parameters of a backbone, or of a classifier where ``num_classes`` is given.

    Args:
        num_classes: None for the backbone without its output norm; a number for the classifier:
            output norm of stage 4, linear - tanh - linear.
        img_size: decides the position embedding's grid, one vector a token at stride 4.
        out_norms: stages (from 0) whose output has a norm, in a backbone.
    """
    widths = arch.widths
    total = arch.kernels[0] ** 2 * in_channels * widths[0] + widths[0] + 2 * widths[0]
    if abs_pos_embed:
        height, width = as_pair(img_size)
        total += embedded(height) * embedded(width) * widths[0]
    for i, w in enumerate(widths):
        inner, hidden = arch.stage_heads[i] * arch.head_dims[i], arch.expansions[i] * w
        attention = w * 3 * inner + 3 * inner + inner * w + w
        feed_forward = w * hidden + hidden + hidden * w + w
        total += arch.depths[i] * (2 * 2 * w + attention + feed_forward)
        if i > 0:
            patch = arch.kernels[i] ** 2 * widths[i - 1]
            total += 2 * patch + patch * w
    if num_classes is None:
        return total + sum(2 * widths[i] for i in out_norms)
    return total + 2 * w + (w * w + w) + (w * num_classes + num_classes)


def stage_macs(
    arch: Architecture,
    img_size: int | Sequence[int] = 224,
    *,
    in_channels: int = 3,
    token_stride: int = BASE_STRIDE,
    window_size: int | Sequence[int | None] | None = None,
    merge_rounding: str = 'up',
) -> tuple[StageMacs, ...]:
    """Multiply-adds of each stage for one image of ``img_size`` pixels."""
    fixed = as_window_sizes(window_size)
    result = []
    for i, (h, w) in enumerate(token_grids(img_size, token_stride, merge_rounding)):
        width, split = arch.widths[i], arch.splits[i]
        inner, hidden = arch.stage_heads[i] * arch.head_dims[i], arch.expansions[i] * width
        window_h, window_w = (window_length(side, split, fixed[i]) for side in (h, w))
        windows = window_count(h, window_h) * window_count(w, window_w)
        tokens = windows * window_h * window_w
        channels = in_channels if i == 0 else arch.widths[i - 1]
        result.append(
            StageMacs(
                tokenize=h * w * arch.kernels[i] ** 2 * channels * width,
                linear=arch.depths[i] * tokens * (4 * width * inner + 2 * width * hidden),
                attention=arch.depths[i] * 2 * tokens * window_h * window_w * inner,
            )
        )
    return tuple(result)


def count_macs(
    arch: Architecture,
    img_size: int | Sequence[int] = 224,
    num_classes: int | None = None,
    *,
    in_channels: int = 3,
    token_stride: int = BASE_STRIDE,
    window_size: int | Sequence[int | None] | None = None,
    merge_rounding: str = 'up',
) -> int:
    """Multiply-adds of one image; with ``num_classes`` the classification head's too."""
    stages = stage_macs(
        arch,
        img_size,
        in_channels=in_channels,
        token_stride=token_stride,
        window_size=window_size,
        merge_rounding=merge_rounding,
    )
    width = arch.widths[-1]
    head = 0 if num_classes is None else width * width + width * num_classes
    return sum(stage.total for stage in stages) + head


def schedule_share(
    arch: Architecture,
    phases: Sequence[tuple[int, int]],
    img_size: int | Sequence[int] = 224,
    num_classes: int | None = None,
) -> float:
    """Multiply-adds of a training run in phases, as a share of the run at the full token grid.

    Args:
        phases: (end, token stride) of each phase of progressive tokenization, ends increasing.

    The backward pass costs about twice the forward pass in every phase, so the share is the forward's.
    """
    macs = {
        stride: float(count_macs(arch, img_size, num_classes, token_stride=stride))
        for stride in (BASE_STRIDE, *(stride for _, stride in phases))
    }
    run = [Phase(end, stride) for end, stride in phases]
    return mean_cost(run, macs, run[-1].end) / macs[BASE_STRIDE]


def token_grids(
    img_size: int | Sequence[int] = 224,
    token_stride: int = BASE_STRIDE,
    merge_rounding: str = 'up',
) -> tuple[tuple[int, int], ...]:
    """(height, width) of the token grid in each of the four stages."""
    height, width = as_pair(img_size)
    rows, columns = (stage_sizes(side, token_stride, merge_rounding) for side in (height, width))
    return tuple(zip(rows, columns, strict=True))
