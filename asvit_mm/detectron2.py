"""As-ViT in Detectron2: ``import asvit_mm.detectron2`` registers its backbones.

- yacs configs: ``add_asvit_config(cfg)``, then ``cfg.MODEL.BACKBONE.NAME = 'build_asvit_fpn_backbone'``, or
  ``'build_asvit_backbone'`` without the feature pyramid;
- lazy configs: ``LazyCall(AsViTBackbone)(arch='small')``; ``configs/detectron2`` has the recipes.

Weights have the names of :class:`asvit_mm.models.AsViT`. ``init_cfg`` loads a classifier's, and refuses what
does not fit; for Detectron2's own checkpointer, which skips it, ``tools/model_converters/to_detectron2.py``
rewrites them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from .arch import Architecture
from .errors import InputError
from .models.asvit import AsViT
from .ops.attention import traced_macs

try:
    from detectron2.config import CfgNode
    from detectron2.layers import ShapeSpec
    from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone
    from detectron2.modeling.backbone.fpn import LastLevelMaxPool
    from detectron2.solver.build import get_default_optimizer_params
    from fvcore.nn.flop_count import _DEFAULT_SUPPORTED_OPS
except ImportError as error:
    raise ImportError(
        f'asvit_mm.detectron2 needs Detectron2 ({error}), which is on no package index: pip install '
        '--no-build-isolation git+https://github.com/facebookresearch/detectron2'
    ) from error

OUT_FEATURES = ('res2', 'res3', 'res4', 'res5')


class AsViTBackbone(AsViT, Backbone):
    """:class:`asvit_mm.models.AsViT` as a backbone of Detectron2: images to maps by name.

    Args:
        arch, img_size, in_channels: as AsViT's.
        out_features: of ``'res2'`` to ``'res5'``, the maps of the four stages, at strides 4 to 32 pixels
            unless the architecture has finer tokens.
        square_pad: side of the square that images are padded to, in pixels; 0: none, sides become multiples
            of the largest stride of ``out_features``. A feature pyramid has a ``square_pad`` of its own.
        init_cfg: ``dict(type='Pretrained', checkpoint='FILE', prefix='backbone.')`` loads weights at once,
            all of the backbone's or none.
        options: AsViT's other arguments.

    Raises:
        InputError: a setting that is not allowed, or weights that do not fit.
    """

    def __init__(
        self,
        arch: str | Mapping[str, Any] | Architecture = 'small',
        img_size: int | Sequence[int] = 224,
        in_channels: int = 3,
        out_features: Sequence[str] = OUT_FEATURES,
        square_pad: int = 0,
        init_cfg: Any = None,
        **options: Any,
    ) -> None:
        unknown = [name for name in out_features if name not in OUT_FEATURES]
        if unknown or 'out_indices' in options:
            raise InputError(
                f'out_features = {list(out_features)} is not allowed: give some of {", ".join(OUT_FEATURES)}'
            )
        stages = tuple(OUT_FEATURES.index(name) for name in out_features)
        super().__init__(arch, img_size, in_channels, stages, init_cfg=init_cfg, **options)
        self._out_features = list(out_features)
        self._square_pad = square_pad
        if init_cfg:
            self.init_weights()  # which MMEngine would call

    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """Images (B, in_channels, H, W) to maps (B, C_i, H_i, W_i) by the names of ``out_features``."""
        return dict(zip(self._out_features, super().forward(x), strict=True))

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each map."""
        widths, stride = self.architecture.widths, self.base_token_stride
        return {
            name: ShapeSpec(channels=widths[i], stride=stride * 2**i)
            for name, i in zip(self._out_features, self.out_indices, strict=True)
        }

    @property
    def size_divisibility(self) -> int:
        """Pixels that sides of images become a multiple of, so that every map has its exact stride."""
        return int(self.base_token_stride * 2 ** self.out_indices[-1])

    @property
    def padding_constraints(self) -> dict[str, int]:
        """How Detectron2 pads images."""
        return {'size_divisibility': self.size_divisibility, 'square_size': self._square_pad}


# -- yacs configs ----------------------------------------------------------------------------------------


def add_asvit_config(cfg: CfgNode) -> None:
    """Add ``MODEL.ASVIT``, the arguments of :class:`AsViTBackbone`, to a config of Detectron2.

    Pixels become those that the classifiers of ``configs/asvit`` are trained with: RGB, normalised.
    """
    cfg.INPUT.FORMAT = 'RGB'
    cfg.MODEL.PIXEL_MEAN = [123.675, 116.28, 103.53]
    cfg.MODEL.PIXEL_STD = [58.395, 57.12, 57.375]
    cfg.MODEL.ASVIT = CfgNode(
        {
            'ARCH': 'small',
            'IMG_SIZE': 224,
            'OUT_FEATURES': list(OUT_FEATURES),
            # Tokens per side of the windows of each stage; []: windows that grow with the image.
            'WINDOW_SIZE': [28, 28, 14, 7],
            'USE_ABS_POS_EMBED': True,
            'DROP_RATE': 0.0,
            'DROP_PATH_RATE': 0.2,
            'FROZEN_STAGES': -1,
            'WITH_CP': False,
            'SQUARE_PAD': 0,
        }
    )


@BACKBONE_REGISTRY.register()
def build_asvit_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> AsViTBackbone:
    """The backbone of ``cfg.MODEL.ASVIT`` for images of ``input_shape.channels``."""
    options = {name.lower(): value for name, value in cfg.MODEL.ASVIT.items()}
    options['window_size'] = options['window_size'] or None
    return AsViTBackbone(in_channels=input_shape.channels, **options)


@BACKBONE_REGISTRY.register()
def build_asvit_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """The backbone of ``cfg.MODEL.ASVIT`` with the feature pyramid of ``cfg.MODEL.FPN``."""
    fpn = cfg.MODEL.FPN
    return FPN(
        bottom_up=build_asvit_backbone(cfg, input_shape),
        in_features=fpn.IN_FEATURES or cfg.MODEL.ASVIT.OUT_FEATURES,
        out_channels=fpn.OUT_CHANNELS,
        norm=fpn.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=fpn.FUSE_TYPE,
        square_pad=cfg.MODEL.ASVIT.SQUARE_PAD,
    )


# -- training --------------------------------------------------------------------------------------------


def get_asvit_optimizer_params(
    model: nn.Module, base_lr: float, layer_decay_rate: float = 1.0, **options: Any
) -> list[dict[str, Any]]:
    """Detectron2's ``get_default_optimizer_params`` with layer-wise learning-rate decay.

    A parameter's rate is ``base_lr`` times ``layer_decay_rate`` to the power of the number of layers after
    its own, by the backbone's ``get_layer_depth``. Norms, biases and the position embedding have no weight
    decay.

    Args:
        model: a model with one :class:`AsViTBackbone` anywhere in it.
        options: of ``get_default_optimizer_params``.

    Raises:
        InputError: the model has no such backbone.
    """
    found = [item for item in model.named_modules() if isinstance(item[1], AsViTBackbone)]
    if not found:
        raise InputError(
            f'layer-wise learning-rate decay: {type(model).__name__} has no AsViTBackbone: give '
            "Detectron2's own get_default_optimizer_params"
        )
    name, backbone = found[0]

    def factor(parameter: str) -> float:
        depth, layers = backbone.get_layer_depth(parameter, f'{name}.' if name else '')
        return float(layer_decay_rate ** (layers - 1 - depth))

    overrides = {'pos_embed': {'weight_decay': 0.0}, **options.pop('overrides', {})}
    options = {'weight_decay_norm': 0.0, 'weight_decay_bias': 0.0, **options}
    groups: list[dict[str, Any]] = get_default_optimizer_params(
        model, base_lr, lr_factor_func=factor, overrides=overrides, **options
    )
    return groups


# -- counting --------------------------------------------------------------------------------------------


# fvcore leaves out operators that it does not know; this one it does not.
_DEFAULT_SUPPORTED_OPS.setdefault('aten::scaled_dot_product_attention', traced_macs)
