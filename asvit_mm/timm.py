"""As-ViT in timm: ``import asvit_mm.timm``, then ``timm.create_model('asvit_small')``.

Weights have the names of the classifiers that mmpretrain builds from ``configs/asvit``: one checkpoint serves
both. ``timm.models.load_checkpoint(model, 'CHECKPOINT.pth')`` reads what
``tools/model_converters/publish_model.py`` writes, ``.pth`` or ``.safetensors``. Checkpoints of a training
run hold more than weights, and timm refuses them.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import DropPath, SelectAdaptivePool2d
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from torch import Tensor, nn

try:
    from timm.models._input import update_model_input_size
except ImportError:  # before timm 1.0.30
    update_model_input_size = None  # type: ignore[assignment]

from .arch import NUM_STAGES, as_architecture
from .engine.config import load_config
from .errors import InputError
from .models.asvit import AsViT, ToMap
from .ops.resample import resample_positions
from .preprocessing import preprocessing_of
from .tokens import as_pair, as_window_sizes, embedded, stage_sizes

POOLINGS = ('avg', 'max', 'avgmax', '')
FORMATS = ('NCHW', 'NHWC', 'NLC')


class ClassifierHead(nn.Module):
    """Map (B, C, h, w) to logits: pooling, dropout, linear, tanh, linear.

    The layers are those of mmpretrain's VisionTransformerClsHead. Without pooling they act on every token,
    and the output is a map. Without classes the last one is missing, without either all are.
    """

    def __init__(self, drop_rate: float) -> None:
        super().__init__()
        self.drop = nn.Dropout(drop_rate)
        self.layers = nn.Sequential(
            OrderedDict(pre_logits=nn.Identity(), act=nn.Identity(), head=nn.Identity())
        )

    def reset(self, weight: Tensor, width: int, num_classes: int, pool_type: str) -> None:
        """Fresh layers, device and dtype as ``weight``'s; the first linear layer stays if it fits."""
        self.pools = bool(pool_type)
        self.global_pool = SelectAdaptivePool2d(pool_type=pool_type, flatten=self.pools)
        layers: Any = self.layers
        hidden = num_classes > 0 or self.pools
        if not hidden:
            layers.pre_logits = nn.Identity()
        elif getattr(layers.pre_logits, 'in_features', None) != width:
            layers.pre_logits = _linear(width, width, weight)
        layers.act = nn.Tanh() if hidden else nn.Identity()
        layers.head = _linear(width, num_classes, weight) if num_classes else nn.Identity()
        self.train(self.training)

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits (B, num_classes), or the input of the last linear layer, (B, C)."""
        x = self.drop(self.global_pool(x))
        if not self.pools:
            x = x.permute(0, 2, 3, 1)
        x = self.layers.act(self.layers.pre_logits(x))  # type: ignore[operator]
        if not pre_logits:
            x = self.layers.head(x)  # type: ignore[operator]
        return x if self.pools else x.permute(0, 3, 1, 2)


def _linear(inputs: int, outputs: int, like: Tensor) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, device=like.device, dtype=like.dtype)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer


class MapView(nn.Module):
    """Tokens (B, H, W, C) seen as a map (B, C, H, W), for timm's feature hooks; copies nothing."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, C, H, W)."""
        return x.permute(0, 3, 1, 2)


class AsVisionTransformer(nn.Module):
    """:class:`asvit_mm.models.AsViT` and a classifier, with the methods that timm's models have.

    Args:
        arch: as AsViT's.
        img_size: as AsViT's.
        in_chans: channels of the image.
        num_classes: of the classifier; 0: none, the output is the input of the classifier's last layer.
        global_pool: 'avg', 'max', 'avgmax', or '' for maps of logits, or of features without classes.
        drop_rate: dropout before the classifier's layers.
        pos_drop_rate: dropout after the embedding.
        proj_drop_rate: dropout of the blocks' linear layers.
        attn_drop_rate, drop_path_rate, window_size, token_stride, token_projection: as AsViT's; the token
            stride of a built model is changed by ``model.backbone.set_token_stride``.
        strict_img_size: refuse images of another size than ``img_size``.
        dynamic_img_size: the opposite of ``strict_img_size``, and the default: any size.
        device, dtype: of the weights.

    Raises:
        InputError: a setting that is not allowed.
    """

    def __init__(
        self,
        arch: str = 'small',
        img_size: int | Sequence[int] = 224,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = 'avg',
        drop_rate: float = 0.0,
        pos_drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        window_size: int | Sequence[int | None] | None = None,
        token_stride: int | None = None,
        token_projection: str = 'dilate',
        strict_img_size: bool = False,
        dynamic_img_size: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        with nullcontext() if device is None else torch.device(device):
            self.backbone = AsViT(
                arch,
                img_size,
                in_chans,
                drop_rate=proj_drop_rate,
                attn_drop_rate=attn_drop_rate,
                drop_path_rate=drop_path_rate,
                window_size=window_size,
                token_stride=token_stride,
                token_projection=token_projection,
            ).to(dtype=dtype)
        self.backbone.drop_after_pos = nn.Dropout(pos_drop_rate)
        for stage in self.backbone.stages:
            for block in stage.blocks:  # mmcv's DropPath is not for TorchScript
                if not isinstance(block.drop_path, nn.Identity):
                    block.drop_path = DropPath(block.drop_path.drop_prob)
        self.strict_img_size = strict_img_size and not dynamic_img_size
        self.dynamic_img_size = not self.strict_img_size
        self._traits = {'fixed_input_size': self.strict_img_size}
        self.img_size, self.in_chans, self.output_fmt = self.backbone.img_size, in_chans, 'NCHW'
        widths, stride = self.backbone.architecture.widths, self.backbone.token_stride
        self.num_features = self.head_hidden_size = widths[-1]
        self.stage_maps = nn.ModuleList(MapView() for _ in widths)
        self.feature_info = [
            dict(num_chs=width, reduction=stride * 2**i, module=f'stage_maps.{i}')
            for i, width in enumerate(widths)
        ]
        self.head = ClassifierHead(drop_rate)
        self.reset_classifier(num_classes, global_pool)

    @torch.jit.ignore
    def init_weights(self, mode: str = '') -> None:
        """Fresh weights of the backbone and the classifier, in place; there is one mode only."""
        self.backbone.reset_parameters()
        self.head.layers.pre_logits = nn.Identity()
        self.reset_classifier(self.num_classes)

    @torch.jit.ignore
    def set_input_size(
        self,
        img_size: int | Sequence[int] | None = None,
        window_size: int | Sequence[int | None] | None = None,
    ) -> None:
        """Resample the position embedding for another image size, or set other windows.

        Args:
            img_size: None: as it is.
            window_size: as AsViT's; None: as it is. Windows of no fixed size grow with the image.
        """
        backbone: Any = self.backbone
        if window_size is not None:
            backbone.window_sizes = as_window_sizes(window_size)
            for stage, size in zip(backbone.stages, backbone.window_sizes, strict=False):
                stage.window_size = size
        if img_size is not None:
            self.img_size = backbone.img_size = as_pair(img_size)
            rows, columns = (embedded(side, backbone.base_token_stride) for side in self.img_size)
            if backbone.pos_embed is not None:
                with torch.no_grad():
                    pos = resample_positions(backbone.pos_embed.float(), rows, columns)
                pos = pos.to(backbone.pos_embed.dtype)
                backbone.pos_embed = nn.Parameter(pos, backbone.pos_embed.requires_grad)
        if update_model_input_size is not None:
            update_model_input_size(self, self.img_size, window_size=window_size)

    @torch.jit.ignore
    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A fresh classifier of other classes, 0 for none, and another pooling unless that is None."""
        if global_pool is not None:
            if global_pool not in POOLINGS:
                raise InputError(
                    f'global_pool = {global_pool!r} is not allowed: one of {", ".join(map(repr, POOLINGS))}'
                )
            self.global_pool = global_pool
        self.num_classes = num_classes
        weight = self.backbone.patch_embed.proj.weight
        self.head.reset(weight, self.num_features, num_classes, self.global_pool)

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        layer: nn.Module = self.head.layers.get_submodule('head')
        return layer

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Activation checkpointing of every block."""
        stage: Any
        for stage in self.backbone.stages:
            stage.with_cp = enable

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        """Parameters that are not decayed, besides norms and biases."""
        return {'backbone.pos_embed'}

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Layers for timm's layer-wise learning-rate decay."""
        stages = r'^backbone\.stages\.(\d+)'
        blocks = [(stages + r'\.merging', (0,)), (stages + r'\.blocks\.(\d+)', None)]
        return {
            'stem': r'^backbone\.(?:patch_embed|pos_embed)',
            'blocks': stages if coarse else blocks,
        }

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (B, in_chans, H, W) to the normalized map (B, C, h, w) of the last stage."""
        if self.strict_img_size:
            self._check_size(x)
        x = self.backbone.embed(x)
        for stage, view in zip(self.backbone.stages, self.stage_maps):  # noqa: B905 (TorchScript)
            x = stage(x)
            view(x)
        return self.backbone.norm3(x)

    def _check_size(self, x: Tensor) -> None:
        rows, columns = self.img_size
        torch._assert(x.shape[-2] == rows, 'the image has another height than img_size')
        torch._assert(x.shape[-1] == columns, 'the image has another width than img_size')

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """The map to logits (B, num_classes), or to the input of the classifier's last layer."""
        return self.head(x, pre_logits)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, in_chans, H, W) to logits (B, num_classes)."""
        return self.forward_head(self.forward_features(x))

    @torch.jit.ignore
    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = 'NCHW',
        intermediates_only: bool = False,
    ) -> Any:
        """The last map (B, C, h, w), normalized, and maps of stages, or only these.

        Args:
            indices: stages; None: all; an integer: that many from the end.
            norm: whether the last stage's map is normalized.
            stop_early: skip stages after the last of ``indices``.
            output_fmt: of the stages' maps: 'NCHW', 'NHWC', or 'NLC' for tokens (B, h * w, C).
        """
        if output_fmt not in FORMATS:
            raise InputError(
                f'output_fmt = {output_fmt!r} is not allowed: give one of {", ".join(FORMATS)}'
            )
        if self.strict_img_size:
            self._check_size(x)
        stages, to_map, last_norm = self.backbone.stages, ToMap(), self.backbone.norm3
        taken, last = feature_take_indices(len(stages), indices)
        maps = []
        x = self.backbone.embed(x)
        for i, stage in enumerate(stages[: last + 1] if stop_early else stages):
            x = stage(x)
            if i in taken:
                found = (last_norm if norm and i == NUM_STAGES - 1 else to_map)(x)
                if output_fmt != 'NCHW':
                    found = found.permute(0, 2, 3, 1)
                maps.append(found.flatten(1, 2) if output_fmt == 'NLC' else found)
        if intermediates_only:
            return maps
        return (last_norm if i == NUM_STAGES - 1 else to_map)(x), maps

    @torch.jit.ignore
    def get_intermediate_layers(
        self, x: Tensor, n: int | list[int] = 1, reshape: bool = False, norm: bool = False
    ) -> list[Tensor]:
        """Tokens (B, h * w, C) of stages ``n``, or of the last n, or with ``reshape`` maps (B, C, h, w)."""
        output_fmt = 'NCHW' if reshape else 'NLC'
        maps: list[Tensor] = self.forward_intermediates(
            x, n, norm=norm, output_fmt=output_fmt, intermediates_only=True
        )
        return maps

    @torch.jit.ignore
    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove what the maps of ``indices`` do not need; returns these stages' numbers."""
        taken, last = feature_take_indices(len(self.backbone.stages), indices)
        self.backbone.stages = self.backbone.stages[: last + 1]
        self.stage_maps = self.stage_maps[: last + 1]
        cut = last < NUM_STAGES - 1
        if prune_norm or cut:
            self.backbone.norm3 = ToMap()
        if cut:
            self.num_features = self.head_hidden_size = self.feature_info[last]['num_chs']
        if prune_head or cut:
            self.reset_classifier(0, '')
        return taken


def keep_what_timm_has(weights: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Of a checkpoint for a model without classes, such as a detector's: the weights of the backbone.

    A detector's backbone has an output norm for every map, timm's model the last one only. For a model with
    classes all weights are kept, so that loading stays strict.
    """
    if isinstance(model, AsVisionTransformer) and model.num_classes:
        return dict(weights)
    own = model.state_dict().keys()
    return {k: v for k, v in weights.items() if k in own or not _REST.match(k)}


# What is no part of a backbone that ends with the last map.
_REST = re.compile(r'(?!backbone\.)|backbone\.norm[012]\.')


# No ImageNet weights are published yet, so there are no addresses.
default_cfgs = generate_default_cfgs(
    {
        f'asvit_{name}': {
            'num_classes': 1000,
            'input_size': (3, 224, 224),
            'pool_size': (7, 7),
            'crop_pct': 0.9,
            'interpolation': 'bicubic',
            'mean': IMAGENET_DEFAULT_MEAN,
            'std': IMAGENET_DEFAULT_STD,
            'first_conv': 'backbone.patch_embed.proj',
            'classifier': 'head.layers.head',
            'license': 'apache-2.0',
        }
        for name in ('seed', 'small', 'base', 'large')
    }
)


def preprocessing(config: str | Path) -> dict[str, Any]:
    """What a classification config does to an image before the network, as timm's ``pretrained_cfg_overlay``.

    Input size, mean, standard deviation, interpolation and crop, so that ``timm.data.create_transform`` does
    the same. Without it a model says ImageNet's, which is wrong for weights of other data.

    Args:
        config: path of an mmpretrain config.

    Raises:
        InputError: timm cannot express it.
    """
    return preprocessing_of(load_config(config))


def _register(preset: str, description: str) -> Callable[..., nn.Module]:
    def create(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        build: Callable[..., nn.Module] = build_model_with_cfg
        stages = kwargs.pop('out_indices', tuple(range(NUM_STAGES)))
        features = {'out_indices': stages, 'feature_cls': 'getter'}
        settings = {'feature_cfg': features, 'pretrained_filter_fn': keep_what_timm_has}
        kwargs = {'arch': preset, **settings, **kwargs}
        overlay = {**_input_of(kwargs), **(kwargs.pop('pretrained_cfg_overlay', None) or {})}
        return build(
            AsVisionTransformer,
            create.__name__,
            pretrained,
            pretrained_cfg_overlay=overlay,
            **kwargs,
        )

    create.__name__ = create.__qualname__ = f'asvit_{preset}'
    create.__doc__ = description
    return register_model(create)


def _input_of(settings: dict[str, Any]) -> dict[str, Any]:
    """What ``pretrained_cfg`` says of the input of a model with these settings."""
    if settings.get('pretrained_cfg'):
        return {}
    channels, size = settings.get('in_chans', 3), as_pair(settings.get('img_size', 224))
    stride = as_architecture(settings['arch']).stride
    overlay = {
        'input_size': (channels, *size),
        'pool_size': tuple(stage_sizes(side, stride)[-1] for side in size),
    }
    if channels != 3:
        overlay |= {'mean': (0.5,) * channels, 'std': (0.5,) * channels}
    return overlay


asvit_seed = _register('seed', 'The published seed of the search.')
asvit_small = _register('small', 'As-ViT-Small, 29.0 M parameters.')
asvit_base = _register('base', 'As-ViT-Base, 52.6 M parameters.')
asvit_large = _register('large', 'As-ViT-Large, 88.1 M parameters.')
