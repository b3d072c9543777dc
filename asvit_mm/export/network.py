"""What is exported of a config's model: the part, its outputs and weights, its pixels and its image sizes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn

from ..checkpoints.reading import check_fit, read_checkpoint, select_weights
from ..engine.config import is_detector, preprocessor_settings
from ..errors import InputError
from ..models import AsViT
from ..tokens import as_pair
from .settings import ExportSettings

LOGITS = ('logits',)


@dataclass(frozen=True)
class Pixels:
    """How a config prepares the pixels of an image for its model.

    Attributes:
        order: of the channels: 'RGB', 'BGR', or '' where there are not three.
        mean, std: of each channel in that order; empty: images are not normalized.
    """

    order: str = ''
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


class ExportNetwork(nn.Module):
    """What is exported: a classifier or a backbone, normalizing its images if asked for.

    Args:
        part: the classifier, or the backbone.
        outputs: names of what :meth:`forward` returns: 'logits', or 'stage1' and so on for feature maps.
        size: (height, width) that it is exported for.
        pixels: how the config prepares an image.
        raw: whether :meth:`forward` takes RGB pixels of 0 to 255 and normalizes them.
        step: height and width may be any multiple of it; 0: they are fixed.
        smallest: the smallest height and width where they are free.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        part: nn.Module,
        outputs: tuple[str, ...],
        size: tuple[int, int],
        *,
        pixels: Pixels = Pixels(),
        raw: bool = False,
        step: int = 0,
        smallest: int = 0,
    ) -> None:
        super().__init__()
        self.part, self.outputs, self.size, self.pixels = part, outputs, size, pixels
        self.raw, self.step, self.smallest = raw, step, smallest
        self.channels: int = getattr(getattr(part, 'backbone', part), 'in_channels', 3)
        if raw:
            # Not 'mean': onnxscript has values of that name, too, and takes one for the other.
            self.register_buffer('pixel_mean', torch.tensor(pixels.mean).view(-1, 1, 1))
            self.register_buffer('pixel_std', torch.tensor(pixels.std).view(-1, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (N, channels, H, W), float32, to logits (N, classes) or maps (N, C_i, H_i, W_i)."""
        if self.raw:
            images = images.flip(1) if self.pixels.order == 'BGR' else images
            images = (images - self.pixel_mean) / self.pixel_std
        if self.outputs == LOGITS:
            return (self.part(images, mode='tensor'),)
        return tuple(self.part(images))

    def describe_images(self) -> str:
        """What the input is expected to be, in words."""
        if self.raw:
            return f'{"RGB " if self.pixels.order else ""}pixels of 0 to 255, normalised inside'
        order = self.pixels.order or 'channels as the config feeds them'
        if not self.pixels.mean:
            return f'{order}, not normalised'
        mean, std = (' '.join(f'{v:g}' for v in vs) for vs in (self.pixels.mean, self.pixels.std))
        return f'{order}, (pixel - mean) / std with mean {mean}, std {std}'


def prepare_network(cfg: Config, model: nn.Module, settings: ExportSettings) -> ExportNetwork:
    """The network to export from the model of a config, with the weights that the model has.

    Raises:
        InputError: the model does not have such outputs, normalization or sizes.
    """
    name = settings.config
    part, outputs = _find_part(cfg, model, settings)
    pixels = read_pixels(cfg, getattr(getattr(part, 'backbone', part), 'in_channels', 3))
    if settings.raw and not pixels.mean:
        raise InputError(f'--raw: {name} has no mean and std of pixels to normalise by')
    backbone = getattr(part, 'backbone', part)
    given = settings.size
    size: Any = given[0] if given and len(given) == 1 else given
    if size is None and not is_detector(cfg):
        size = getattr(backbone, 'img_size', None)
    if size is None:
        raise InputError(f'{name} does not say how large images are: give --size HEIGHT WIDTH')
    step = size_step(backbone, settings.format) if settings.dynamic_size else 0
    # torch.export treats a side of one token as a special case.
    smallest = 2 * step if settings.format == 'torch' else step
    height, width = as_pair(size, '--size')
    if step and any(side % step or side < smallest for side in (height, width)):
        raise InputError(
            f'--dynamic-size: height and width are multiples of {step} from {smallest} up, and '
            f'{height}x{width} is not: give another --size'
        )
    return ExportNetwork(
        part,
        outputs,
        (height, width),
        pixels=pixels,
        raw=settings.raw,
        step=step,
        smallest=smallest,
    )


def size_step(backbone: nn.Module, file_format: str) -> int:
    """The step of free heights and widths: at its multiples, every stage's map is halved without a remainder.

    Where windows follow the map's size, they tile it as well.

    Raises:
        InputError: a backbone or a setting with which sizes cannot be free.
    """
    if not isinstance(backbone, AsViT):
        raise InputError(f'--dynamic-size: known for AsViT only, not {type(backbone).__name__}')
    fixed = any(size is not None for size in backbone.window_sizes)
    enlarged = backbone.keep_map_sizes and backbone.token_stride != backbone.base_token_stride
    for refused, setting in (
        (backbone.merge_rounding == 'over', "merge_rounding='over'"),
        (enlarged, 'keep_map_sizes=True'),
        (file_format == 'openvino', '--format openvino (it reads what --format onnx writes)'),
        (fixed and file_format == 'torch', 'window_size and --format torch'),
    ):
        if refused:
            raise InputError(f'--dynamic-size cannot be had with {setting}: leave one of them out')
    stages = zip(backbone.architecture.splits, backbone.window_sizes, strict=True)
    return math.lcm(
        *(
            backbone.token_stride * 2**i * (split if window is None else 1)
            for i, (split, window) in enumerate(stages)
        )
    )


def load_weights(network: ExportNetwork, checkpoint: str) -> None:
    """Load all weights of the network from a checkpoint of a whole model.

    Raises:
        InputError: a checkpoint that cannot be read or whose weights do not fit.
    """
    whole = network.outputs == LOGITS
    weights = select_weights(read_checkpoint(checkpoint), '' if whole else 'backbone.')
    if not weights:
        raise InputError(
            f'{checkpoint!r} has no weights of a backbone: give a checkpoint of a model'
        )
    check_fit(
        network.part,
        weights,
        checkpoint,
        # A backbone has output norms for the maps that were asked for when it was trained.
        optional=[] if whole else ['norm'],
        resampled='backbone.pos_embed' if whole else 'pos_embed',
    )
    network.part.load_state_dict(weights, strict=False)


def _find_part(
    cfg: Config, model: nn.Module, settings: ExportSettings
) -> tuple[nn.Module, tuple[str, ...]]:
    """The classifier of a config or the backbone of its model, and the names of the outputs."""
    name = settings.config
    classifies = not is_detector(cfg) and bool(getattr(model, 'with_head', False))
    output = settings.output or ('logits' if classifies else 'features')
    if output == 'logits':
        if not classifies:
            raise InputError(f'the model of {name} has no logits of classes: --output features')
        return model, LOGITS
    backbone = getattr(model, 'backbone', None)
    if not isinstance(backbone, nn.Module):
        raise InputError(f'the model of {name} has no backbone: there are no features to export')
    indices = getattr(backbone, 'out_indices', None)
    if not isinstance(indices, Sequence):
        raise InputError(
            f'{type(backbone).__name__} does not say which maps it returns (out_indices)'
        )
    return backbone, tuple(f'stage{i + 1}' for i in indices)


def read_pixels(cfg: Config, channels: int) -> Pixels:
    """What a config's data preprocessor does to images of that many channels, which MMCV reads as BGR."""
    settings = preprocessor_settings(cfg)
    to_rgb = settings.get('to_rgb') or settings.get('bgr_to_rgb')
    mean, std = (tuple(map(float, settings.get(name) or ())) for name in ('mean', 'std'))
    order = '' if channels != 3 else 'RGB' if to_rgb else 'BGR'
    return Pixels(order, mean, std) if mean and std else Pixels(order)
