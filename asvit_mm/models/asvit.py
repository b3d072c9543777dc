"""As-ViT backbone.

Paper: Auto-scaling Vision Transformers without Training, ICLR 2022 (arXiv 2202.11921).
Source of the published search code: github.com/VITA-Group/AsViT.

Differences from the published search code, none of which changes an output at its sizes:
- windows are cut once a stage, not once a block: no block shifts them, and norms and feed-forward
  layers do not care about the order of tokens;
- any height and width: maps that windows or mergings do not tile are padded, padding masked out;
- the position embedding of the trained models is there (``use_abs_pos_embed``) and is resampled;
- identity norms are a setting (``norm_cfg=None``) instead of surgery on a built network.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.model import BaseModule, PretrainedInit
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..arch import NUM_STAGES, Architecture, as_architecture
from ..checkpoints.reading import load_pretrained
from ..cost import count_macs, token_grids
from ..errors import InputError
from ..registry import MODELS
from ..tokens import (
    BASE_STRIDE,
    as_pair,
    as_window_sizes,
    check_merge_rounding,
    check_multiple,
    check_token_stride,
    embedded,
    fits_windows,
    stage_sizes,
)
from .layers import Block, PatchEmbed
from .merging import PatchMerging
from .norms import build_norm
from .windows import partition_windows, reverse_windows, traced_window_length


class Stage(nn.Module):
    """One stage: patch merging (none in the first), then blocks on one partition into windows."""

    def __init__(
        self,
        merging: nn.Module,
        blocks: Sequence[Block],
        split: int,
        window_size: int | None,
        with_cp: bool,
    ) -> None:
        super().__init__()
        self.merging = merging
        self.blocks = nn.ModuleList(blocks)
        self.split = split
        self.window_size = window_size
        self.with_cp = with_cp

    def forward(self, x: Tensor) -> Tensor:
        x = self.merging(x)
        height, width = x.shape[1:3]
        window = (
            traced_window_length(height, self.split, self.window_size),
            traced_window_length(width, self.split, self.window_size),
        )
        x, mask = partition_windows(x, window)
        for block in self.blocks:
            if self.with_cp and self.training and torch.is_grad_enabled():
                x = checkpoint(block, x, mask, use_reentrant=False)
            else:
                x = block(x, mask)
        return reverse_windows(x, window, (height, width))


@MODELS.register_module()
class AsViT(BaseModule):
    """As-ViT backbone: image to feature maps.

    Args:
        arch: a preset (``'seed'``, ``'small'``, ``'base'``, ``'large'``), an architecture string or a
            dict of :class:`~asvit_mm.arch.Architecture`'s fields.
        img_size: pixels a side, or (height, width); decides the position embedding's grid only: any
            input size runs.
        in_channels: channels of the image.
        out_indices: stages (0-3) whose maps are returned, each through a norm of its own.
        drop_rate: dropout after the embedding and in every block's two projections.
        drop_path_rate: stochastic depth of the last block; grows linearly from 0 at the first.
        use_abs_pos_embed: learned absolute position embedding, one vector a token at stride 4.
        token_stride: pixels between two tokens of the first stage (see ``set_token_stride``).
        window_size: tokens a side of a window in all stages or in each; None: (token grid / split),
            so that windows grow with the image.
        merge_rounding: what patch merging makes of an odd side of tokens, as coarse grids have: one of
            ``asvit_mm.tokens.MERGE_ROUNDINGS``.
        keep_map_sizes: at a coarser token stride, enlarge the maps to the sizes of stride 4 (bilinear), for
            necks and heads that are made for strides of 4, 8, 16 and 32 pixels, as mmdet's are.
        with_cp: activation checkpointing, which trades time for memory in training: of every block (True), or
            of its attention alone (``'attention'``), of which on a CPU in float32 only queries, keys and
            values are computed again.
        frozen_stages: -1: none; 0: the embedding; k: the embedding and the first k stages.
        norm_cfg: every norm's config; None for identities (the length distortion's network).
        act_cfg: the activation of the feed-forward layers.
        init_cfg: MMEngine's, a pretrained checkpoint for instance. Without it the weights are the
            paper's: linear truncated normal with std 0.02, biases 0, norms 1 and 0, the embedding's
            convolution as torch initialises it.

    Raises:
        InputError: a setting outside what is allowed, the architecture included.
    """

    base_token_stride = BASE_STRIDE

    init_cfg: Any

    def __init__(
        self,
        arch: str | Mapping[str, Any] | Architecture = 'small',
        img_size: int | Sequence[int] = 224,
        in_channels: int = 3,
        out_indices: Sequence[int] = (3,),
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        use_abs_pos_embed: bool = True,
        token_stride: int = 4,
        window_size: int | Sequence[int | None] | None = None,
        merge_rounding: str = 'up',
        keep_map_sizes: bool = False,
        with_cp: bool | str = False,
        frozen_stages: int = -1,
        norm_cfg: dict[str, Any] | None = dict(type='LN'),  # noqa: B006 (never changed; the ecosystem's form)
        act_cfg: dict[str, Any] = dict(type='GELU'),  # noqa: B006
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        _check_settings(in_channels, drop_rate, drop_path_rate, norm_cfg, act_cfg)
        self.architecture = arch = as_architecture(arch)
        self.out_indices = _check_out_indices(out_indices)
        self.frozen_stages = _check_frozen_stages(frozen_stages)
        self.window_sizes = window_sizes = as_window_sizes(window_size)
        self.img_size = height, width = as_pair(img_size)
        self.in_channels = in_channels
        if with_cp not in (True, False, 'attention'):
            raise InputError(f"with_cp = {with_cp!r} is none of True, False and 'attention'")
        check_merge_rounding(merge_rounding)
        self.merge_rounding = merge_rounding
        self.keep_map_sizes = keep_map_sizes
        widths = arch.widths

        self.patch_embed = PatchEmbed(in_channels, widths[0], arch.kernels[0], norm_cfg)
        self.patch_embed.set_stride(token_stride)
        # (1, rows, columns, C): the shape itself tells the grid when it has to be resampled.
        self.pos_embed = (
            nn.Parameter(torch.zeros(1, embedded(height), embedded(width), widths[0]))
            if use_abs_pos_embed
            else None
        )
        self.drop_after_pos = nn.Dropout(drop_rate)

        drop_path = iter(np.linspace(0, drop_path_rate, sum(arch.depths)).tolist())
        self.stages = nn.ModuleList()
        for i in range(NUM_STAGES):
            merging = (
                nn.Identity()
                if i == 0
                else PatchMerging(
                    widths[i - 1], widths[i], arch.kernels[i], norm_cfg, merge_rounding
                )
            )
            blocks = [
                Block(
                    widths[i],
                    arch.stage_heads[i],
                    arch.expansions[i],
                    drop_rate,
                    next(drop_path),
                    norm_cfg,
                    act_cfg,
                    recompute_attention=with_cp == 'attention',
                )
                for _ in range(arch.depths[i])
            ]
            whole = bool(with_cp) and with_cp != 'attention'
            self.stages.append(Stage(merging, blocks, arch.splits[i], window_sizes[i], whole))
        for i in self.out_indices:
            self.add_module(f'norm{i}', build_norm(norm_cfg, widths[i]))

        self.reset_parameters()
        self._freeze()

    def reset_parameters(self) -> None:
        """Draw fresh weights, as the paper initialises them, from torch's global generator."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, (nn.LayerNorm, nn.Conv2d)):
                module.reset_parameters()
        if self.pos_embed is not None:
            nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def init_weights(self) -> None:
        """MMEngine's, except that a ``Pretrained`` init_cfg is loaded whole; what it took is logged.

        Raises:
            InputError: a checkpoint of which a weight has no place here, or that lacks one of these. Output
                norms excepted: a classifier has one, a detector one a map.
        """
        given = [self.init_cfg] if isinstance(self.init_cfg, Mapping) else self.init_cfg or []
        pretrained = [c for c in given if c.get('type') in ('Pretrained', PretrainedInit)]
        # MMEngine would load these by its own loader, and take whatever fits.
        self.init_cfg = [config for config in given if config not in pretrained]
        super().init_weights()
        self.init_cfg = given
        for config in pretrained:
            load_pretrained(self, config, optional=['norm'], resampled='pos_embed')

    @property
    def token_stride(self) -> int:
        """Pixels between two tokens of the first stage."""
        return self.patch_embed.stride

    def set_token_stride(self, stride: int, dilation: int | None = None) -> None:
        """Make the tokens coarser or finer; parameters and state dict stay as they are.

        Args:
            stride: pixels between two tokens, an integer from 4 up.
            dilation: of the first projection; None: max(1, (stride - 1) // (K1 - 1)).

        Raises:
            InputError: a stride or dilation that is not allowed.
        """
        self.patch_embed.set_stride(stride, dilation)

    @property
    def token_dilation(self) -> int:
        """Pixels between two taps of the first projection."""
        return self.patch_embed.dilation

    def check_token_stride(self, stride: int, dilation: int | None = None) -> None:
        """Refuse a stride that images of ``img_size`` cannot be trained at.

        Raises:
            InputError: it is not allowed, no multiple of 4, or leaves a stage fewer tokens a side than it
                has windows.
        """
        check_token_stride(stride, dilation)
        check_multiple(stride, BASE_STRIDE)
        if self.window_sizes == (None,) * NUM_STAGES:
            for side in self.img_size:
                if not fits_windows(side, stride, self.architecture.splits, self.merge_rounding):
                    sizes = stage_sizes(side, stride, self.merge_rounding)
                    raise InputError(
                        f'token stride {stride} is too coarse for {side} pixels: fewer tokens a side '
                        f'({", ".join(map(str, sizes))} in the stages) than windows '
                        f'({", ".join(map(str, self.architecture.splits))})'
                    )

    def token_grids(self, stride: int) -> tuple[tuple[int, int], ...]:
        """(height, width) of the stages' grids of tokens for images of ``img_size``."""
        return token_grids(self.img_size, stride, self.merge_rounding)

    def count_macs(self, stride: int) -> int:
        """Multiply-adds of the backbone for one image of ``img_size``; see :mod:`asvit_mm.cost`."""
        return count_macs(
            self.architecture,
            self.img_size,
            in_channels=self.in_channels,
            token_stride=stride,
            window_size=self.window_sizes,
            merge_rounding=self.merge_rounding,
        )

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter for layer-wise learning-rate decay, and the number of layers.

        0 is the embedding, then every block is one; a merging counts with the block before it, output norms
        and whatever lies outside the backbone with the last layer. As mmpretrain counts its Swin.

        Args:
            param_name: its name in the model.
            prefix: what the backbone's own names begin with there, e.g. ``'backbone.'``.
        """
        depths = self.architecture.depths
        num_layers = sum(depths) + 2
        name = param_name.removeprefix(prefix)
        if param_name.startswith(prefix):
            if name.startswith(('patch_embed.', 'pos_embed')):
                return 0, num_layers
            if name.startswith('stages.'):
                stage, part, *rest = name.removeprefix('stages.').split('.')
                before = sum(depths[: int(stage)])
                return before + (int(rest[0]) + 1 if part == 'blocks' else 0), num_layers
        return num_layers - 1, num_layers

    def embed(self, x: Tensor) -> Tensor:
        """Image (B, in_channels, H, W) to tokens (B, rows, columns, C) with their positions."""
        x = self.patch_embed(x)
        if self.pos_embed is not None:
            pos: Tensor = self.pos_embed
            # A size that is free in an export is no number to compare; to its own size the embedding is
            # resampled without a change.
            free = any(isinstance(side, torch.SymInt) for side in x.shape[1:3])
            if free or pos.shape[1:3] != x.shape[1:3]:
                pos = F.interpolate(pos.permute(0, 3, 1, 2), x.shape[1:3], mode='bicubic')
                pos = pos.permute(0, 2, 3, 1)
            x = x + pos
        return self.drop_after_pos(x)

    def pooled_tokens(self, x: Tensor) -> Tensor:
        """Tokens of stage 4 before the output norm, averaged: (B, C4). What the measures look at."""
        x = self.embed(x)
        for stage in self.stages:
            x = stage(x)
        return x.mean((1, 2))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Image (B, in_channels, H, W) to one (B, C_i, H_i, W_i) map for each of ``out_indices``."""
        enlarged = self.keep_map_sizes and self.token_stride != BASE_STRIDE
        sizes = token_grids(x.shape[2:], BASE_STRIDE, self.merge_rounding) if enlarged else ()
        x = self.embed(x)
        outs = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in self.out_indices:
                out = getattr(self, f'norm{i}')(x).permute(0, 3, 1, 2).contiguous()
                if enlarged:
                    out = F.interpolate(out, sizes[i], mode='bilinear')
                outs.append(out)
            if i == self.out_indices[-1]:
                break
        return tuple(outs)

    def train(self, mode: bool = True) -> 'AsViT':
        """Set training mode; frozen stages stay in evaluation mode (no dropout)."""
        super().train(mode)
        self._freeze()
        return self

    def _freeze(self) -> None:
        if self.frozen_stages < 0:
            return
        frozen = [self.patch_embed, self.drop_after_pos, *self.stages[: self.frozen_stages]]
        frozen += [getattr(self, f'norm{i}') for i in self.out_indices if i < self.frozen_stages]
        for module in frozen:
            module.eval()
            module.requires_grad_(False)
        if self.pos_embed is not None:
            self.pos_embed.requires_grad_(False)

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # A checkpoint of another image size has another position grid: resampled, not refused.
        key = f'{prefix}pos_embed'
        if self.pos_embed is not None and key in state_dict:
            pos = state_dict[key]
            size = self.pos_embed.shape[1:3]
            if pos.ndim == 4 and pos.shape[1:3] != size and pos.shape[3] == self.pos_embed.shape[3]:
                pos = F.interpolate(pos.permute(0, 3, 1, 2).float(), size, mode='bicubic')
                state_dict[key] = pos.permute(0, 2, 3, 1).to(self.pos_embed.dtype)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _check_settings(
    in_channels: int,
    drop_rate: float,
    drop_path_rate: float,
    norm_cfg: dict[str, Any] | None,
    act_cfg: dict[str, Any],
) -> None:
    if type(in_channels) is not int or in_channels < 1:
        raise InputError(f'in_channels = {in_channels!r} is not allowed: give an integer from 1 up')
    for name, rate in (('drop_rate', drop_rate), ('drop_path_rate', drop_path_rate)):
        if not 0 <= rate < 1:
            raise InputError(f'{name} = {rate!r} is not allowed: give a number from 0 to below 1')
    if norm_cfg is not None and norm_cfg.get('type') not in ('LN', 'LayerNorm'):
        raise InputError(
            f'norm_cfg = {norm_cfg!r} is not allowed: tokens are (..., C), so norms are LN, or None'
        )
    if not isinstance(act_cfg, Mapping) or 'type' not in act_cfg:
        raise InputError(
            f"act_cfg = {act_cfg!r} is not allowed: give a dict such as dict(type='GELU')"
        )


def _check_out_indices(out_indices: Sequence[int]) -> tuple[int, ...]:
    indices = tuple(out_indices) if isinstance(out_indices, Sequence) else ()
    if (
        not indices
        or any(type(i) is not int or i not in range(NUM_STAGES) for i in indices)
        or list(indices) != sorted(set(indices))
    ):
        raise InputError(
            f'out_indices = {out_indices!r} is not allowed: give increasing stage numbers from 0 to 3'
        )
    return indices


def _check_frozen_stages(frozen_stages: int) -> int:
    if type(frozen_stages) is not int or frozen_stages not in range(-1, NUM_STAGES + 1):
        raise InputError(
            f'frozen_stages = {frozen_stages!r} is not allowed: -1 (none), 0 (the embedding) or up to 4'
        )
    return frozen_stages
