"""As-ViT in timm: ``import asvit_mm.timm``, then ``timm.create_model('asvit_small')``.

Weights have the names of the classifiers that mmpretrain builds from ``configs/asvit``: one checkpoint serves
both. ``timm.models.load_checkpoint(model, 'CHECKPOINT.pth')`` reads what
``tools/model_converters/publish_model.py`` writes, ``.pth`` or ``.safetensors``. Checkpoints of a training
run hold more than weights, and timm refuses them.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from .arch import NUM_STAGES
from .errors import InputError
from .models.asvit import AsViT, ToMap


class ClassifierHead(nn.Module):
    """Pooled tokens (B, C) to logits: linear, tanh, linear, like mmpretrain's VisionTransformerClsHead."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        pre_logits, head = nn.Linear(width, width), nn.Linear(width, num_classes)
        for layer in (pre_logits, head):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.layers = nn.Sequential(OrderedDict(pre_logits=pre_logits, act=nn.Tanh(), head=head))

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits (B, num_classes), or the input of the last linear layer, (B, C)."""
        return (self.layers[:-1] if pre_logits else self.layers)(x)


class AsVisionTransformer(nn.Module):
    """:class:`asvit_mm.models.AsViT` and a classifier, with the methods that timm's models have.

    Args:
        arch: as AsViT's.
        img_size: as AsViT's; the model takes any size.
        in_chans: channels of the image.
        num_classes: of the classifier; 0: none, the output is the pooled tokens.
        global_pool: 'avg', or '' for the map of the last stage.
        drop_rate: dropout before the classifier's last layers.
        proj_drop_rate: AsViT's ``drop_rate``.
        drop_path_rate, window_size: as AsViT's.

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
        proj_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        window_size: int | Sequence[int | None] | None = None,
    ) -> None:
        super().__init__()
        self.backbone = AsViT(
            arch,
            img_size,
            in_chans,
            drop_rate=proj_drop_rate,
            drop_path_rate=drop_path_rate,
            window_size=window_size,
        )
        widths = self.backbone.architecture.widths
        self.num_features = self.head_hidden_size = widths[-1]
        self.feature_info = [
            dict(num_chs=width, reduction=4 * 2**i, module=f'backbone.stages.{i}')
            for i, width in enumerate(widths)
        ]
        self.head_drop = nn.Dropout(drop_rate)
        self.reset_classifier(num_classes, global_pool)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A fresh classifier of other classes; 0: none."""
        if global_pool is not None:
            if global_pool not in ('avg', ''):
                raise InputError(f"global_pool = {global_pool!r} is not allowed: 'avg' or ''")
            self.global_pool = global_pool
        self.num_classes = num_classes
        self.head = ClassifierHead(self.num_features, num_classes) if num_classes else nn.Identity()

    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        return self.head.layers[-1] if isinstance(self.head, ClassifierHead) else self.head

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
        return self.backbone.norm3(self.backbone.last_tokens(x))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """The map to logits (B, num_classes)."""
        if self.global_pool == 'avg':
            x = x.mean((2, 3))
        x = self.head_drop(x)
        return self.head(x, pre_logits) if isinstance(self.head, ClassifierHead) else x

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, in_chans, H, W) to logits (B, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = 'NCHW',
        intermediates_only: bool = False,
    ) -> Any:
        """The last map, normalized, and maps (B, C_i, h_i, w_i) of stages, or only these.

        Args:
            indices: stages; None: all; an integer: that many from the end.
            norm: whether the last stage's map is normalized.
            stop_early: skip stages after the last of ``indices``.
        """
        if output_fmt != 'NCHW':
            raise InputError(f'output_fmt = {output_fmt!r} is not allowed: NCHW')
        stages, to_map, last_norm = self.backbone.stages, ToMap(), self.backbone.norm3
        taken, last = feature_take_indices(len(stages), indices)
        maps = []
        x = self.backbone.embed(x)
        for i, stage in enumerate(stages[: last + 1] if stop_early else stages):
            x = stage(x)
            if i in taken:
                maps.append((last_norm if norm and i == NUM_STAGES - 1 else to_map)(x))
        if intermediates_only:
            return maps
        return (last_norm if i == NUM_STAGES - 1 else to_map)(x), maps

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove what the maps of ``indices`` do not need; returns these stages' numbers."""
        taken, last = feature_take_indices(len(self.backbone.stages), indices)
        self.backbone.stages = self.backbone.stages[: last + 1]
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


def _register(preset: str, description: str) -> Callable[..., nn.Module]:
    def create(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        build: Callable[..., nn.Module] = build_model_with_cfg
        stages = kwargs.pop('out_indices', tuple(range(NUM_STAGES)))
        features = {'out_indices': stages, 'feature_cls': 'getter'}
        settings = {'feature_cfg': features, 'pretrained_filter_fn': keep_what_timm_has}
        kwargs = {'arch': preset, **settings, **kwargs}
        return build(AsVisionTransformer, create.__name__, pretrained, **kwargs)

    create.__name__ = create.__qualname__ = f'asvit_{preset}'
    create.__doc__ = description
    return register_model(create)


asvit_seed = _register('seed', 'The published seed of the search.')
asvit_small = _register('small', 'As-ViT-Small, 29.0 M parameters.')
asvit_base = _register('base', 'As-ViT-Base, 52.6 M parameters.')
asvit_large = _register('large', 'As-ViT-Large, 88.1 M parameters.')
