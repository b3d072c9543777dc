"""What of a config's model is exported: its outputs, its weights, the pixels and the sizes that it takes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmengine.config import Config
from torch import Tensor, nn

from ..checkpoints.reading import check_fit, read_checkpoint, select_weights
from ..engine.config import is_detector
from ..errors import InputError
from ..models import AsViT
from ..tokens import BASE_STRIDE, as_pair


@dataclass(frozen=True)
class Pixels:
    """What a model's config does to an image before the network sees it.

    Args:
        order: of the channels that the network takes: 'RGB', 'BGR', or '' where there are not three.
        mean: of each channel, in that order; None where images are not normalised.
        std: as ``mean``.
    """

    order: str
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None


@dataclass(frozen=True)
class Network:
    """What is exported.

    Args:
        module: images (N, channels, H, W), float32, to a tuple of tensors, one for each of ``outputs``.
        part: of it that has the weights: the model of the config, or its backbone.
        outputs: their names: 'logits', or 'stage1' and so on for maps.
        pixels: what the config makes images of.
        raw: whether the module takes RGB pixels of 0 to 255 and normalises them itself.
        channels: of an image.
        size: (height, width) that it is exported for.
        step: pixels that height and width are multiples of, where they are free; 0: they are not.
        smallest: pixels a side from which on they are free.
    """

    module: nn.Module
    part: nn.Module
    outputs: tuple[str, ...]
    pixels: Pixels
    raw: bool
    channels: int
    size: tuple[int, int]
    step: int
    smallest: int

    @property
    def gives_logits(self) -> bool:
        """Whether it is a classifier, rather than a backbone."""
        return self.outputs == ('logits',)


def prepare_network(
    cfg: Config,
    model: nn.Module,
    config: str,
    *,
    file_format: str,
    output: str | None = None,
    size: Sequence[int] | None = None,
    dynamic_size: bool = False,
    raw: bool = False,
) -> Network:
    """What is exported of the model of a config, its weights as they are.

    Args:
        cfg: the config.
        model: built from it.
        config: what the user calls it.
        file_format: ``'onnx'`` or ``'torch'``, which leave other sizes free.
        output: ``'logits'`` or ``'features'``; None: logits where the model has them.
        size: (height, width) of the images; None: the backbone's ``img_size``, of a classifier.
        dynamic_size: whether height and width stay free.
        raw: whether the network takes RGB pixels of 0 to 255 and normalises them itself.

    Raises:
        InputError: the model does not have such outputs, normalisation or sizes.
    """
    part, output = _find_part(cfg, model, config, output)
    pixels = pixels_of(cfg, part)
    if raw and pixels.mean is None:
        raise InputError(f'--raw: {config} has no mean and std of pixels to normalise by')
    step = size_step(getattr(part, 'backbone', part), file_format) if dynamic_size else 0
    module = Logits(part) if output == 'logits' else Features(part)
    network = Network(
        module=(Normalised(module, pixels) if raw else module).eval().requires_grad_(False),
        part=part,
        outputs=('logits',) if output == 'logits' else _map_names(part),
        pixels=pixels,
        raw=raw,
        channels=_channels(part),
        size=_find_size(cfg, part, size, config),
        step=step,
        # A side of one token is special to torch.export.
        smallest=2 * step if file_format == 'torch' else step,
    )
    _check_size(network)
    return network


class Logits(nn.Module):
    """A classifier's logits (N, classes) of images: no softmax."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (N, channels, H, W) to logits."""
        return (self.model(images, mode='tensor'),)


class Features(nn.Module):
    """A backbone's maps (N, C_i, H_i, W_i) of images."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (N, channels, H, W) to maps."""
        return tuple(self.backbone(images))


class Normalised(nn.Module):
    """A network behind the normalisation of its images, RGB pixels (N, 3, H, W) of 0 to 255."""

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, network: nn.Module, pixels: Pixels) -> None:
        super().__init__()
        self.network = network
        self.flips = pixels.order == 'BGR'
        # Not 'mean': onnxscript has values of that name, too, and takes one for the other.
        self.register_buffer('pixel_mean', torch.tensor(pixels.mean).view(-1, 1, 1))
        self.register_buffer('pixel_std', torch.tensor(pixels.std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Pixels (N, 3, H, W) to what the network gives."""
        if self.flips:
            images = images.flip(1)
        return self.network((images - self.pixel_mean) / self.pixel_std)


def pixels_of(cfg: Config, model: nn.Module) -> Pixels:
    """What the data preprocessor of a config does, its images being read as BGR, as MMCV reads them."""
    channels = _channels(model)
    # As MMEngine's Runner has it: the model's own wins.
    settings = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    to_rgb = settings.get('to_rgb') or settings.get('bgr_to_rgb')
    mean, std = (settings.get(name) for name in ('mean', 'std'))
    return Pixels(
        order='' if channels != 3 else 'RGB' if to_rgb else 'BGR',
        mean=None if mean is None or std is None else tuple(map(float, mean)),
        std=None if mean is None or std is None else tuple(map(float, std)),
    )


def describe_images(network: Network) -> str:
    """What images are to be when the network gets them."""
    if network.raw:
        return 'RGB pixels of 0 to 255, normalised inside'
    pixels = network.pixels
    order = pixels.order or 'channels as the config feeds them'
    if pixels.mean is None:
        return f'{order}, not normalised'
    mean, std = (' '.join(f'{v:g}' for v in values) for values in (pixels.mean, pixels.std or ()))
    return f'{order}, (pixel - mean) / std with mean {mean}, std {std}'


def size_step(backbone: nn.Module, file_format: str) -> int:
    """What heights and widths are multiples of, where an export leaves them free.

    Every stage's map then is halved without a rest and, where windows follow the map's size, tiled by them.

    Raises:
        InputError: a backbone or a setting with which sizes cannot be free.
    """
    if not isinstance(backbone, AsViT):
        raise InputError(f'--dynamic-size: known for AsViT only, not {type(backbone).__name__}')
    fixed = any(size is not None for size in backbone.window_sizes)
    enlarged = backbone.keep_map_sizes and backbone.token_stride != BASE_STRIDE
    for refused, setting in (
        (backbone.merge_rounding == 'over', "merge_rounding='over'"),
        (enlarged, 'keep_map_sizes=True'),
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


def load_weights(network: Network, checkpoint: str) -> None:
    """Give the network its weights from a checkpoint of a whole model, all of them.

    Raises:
        InputError: a checkpoint that cannot be read or whose weights do not fit.
    """
    prefix = '' if network.gives_logits else 'backbone.'
    weights = select_weights(read_checkpoint(checkpoint), prefix)
    if not weights:
        raise InputError(
            f'{checkpoint!r} has no weights of a backbone: give a checkpoint of a model'
        )
    check_fit(
        network.part,
        weights,
        checkpoint,
        # A backbone's output norms are those of the maps that were asked for when it was trained.
        optional=['norm'] if prefix else [],
        resampled='pos_embed' if prefix else 'backbone.pos_embed',
    )
    network.part.load_state_dict(weights, strict=False)


def _find_part(
    cfg: Config, model: nn.Module, config: str, output: str | None
) -> tuple[nn.Module, str]:
    """The model of a config or its backbone, and which of logits and features it gives."""
    classifies = not is_detector(cfg) and bool(getattr(model, 'with_head', False))
    output = output or ('logits' if classifies else 'features')
    if output == 'logits':
        if not classifies:
            raise InputError(f'the model of {config} has no logits of classes: --output features')
        return model, output
    backbone = getattr(model, 'backbone', None)
    if not isinstance(backbone, nn.Module):
        raise InputError(f'the model of {config} has no backbone: there are no features to export')
    return backbone, output


def _find_size(
    cfg: Config, model: nn.Module, size: Sequence[int] | None, config: str
) -> tuple[int, int]:
    """(height, width) to export for."""
    if size is None and not is_detector(cfg):
        size = getattr(getattr(model, 'backbone', model), 'img_size', None)
    if size is None:
        raise InputError(f'{config} does not say how large images are: give --size HEIGHT WIDTH')
    return as_pair(size, '--size')


def _check_size(network: Network) -> None:
    """Refuse a size that is none of those which stay free."""
    step, smallest = network.step, network.smallest
    if step and any(side % step or side < smallest for side in network.size):
        raise InputError(
            f'--dynamic-size: height and width are multiples of {step} from {smallest} up, and '
            f'{network.size[0]}x{network.size[1]} is not: give another --size'
        )


def _channels(model: nn.Module) -> int:
    return getattr(getattr(model, 'backbone', model), 'in_channels', 3)


def _map_names(backbone: nn.Module) -> tuple[str, ...]:
    indices = getattr(backbone, 'out_indices', None)
    if not isinstance(indices, Sequence):
        raise InputError(
            f'{type(backbone).__name__} does not say which maps it returns (out_indices)'
        )
    return tuple(f'stage{i + 1}' for i in indices)
