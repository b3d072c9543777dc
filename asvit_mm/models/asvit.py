"""As-ViT backbone.

Paper: Auto-scaling Vision Transformers without Training, ICLR 2022 (arXiv 2202.11921).
Source of the published search code: github.com/VITA-Group/AsViT.

Differences from the published search code, none of which changes an output at its sizes:
- windows are cut once per stage, not per block: nothing in a block depends on the order of its windows;
- any height and width: maps that windows or patch merging do not tile are padded, and padding is masked out;
- the position embedding of the paper's trained models is included (``use_abs_pos_embed``), and resampled;
- identity norms are a setting (``norm_cfg=None``), not a change made to a built network.

From top to bottom: patch embedding and patch merging, windows, attention, feed-forward layers and block,
stage, backbone; checkpoints and fine-tuning are :mod:`.backbone`'s. Token maps are (B, H, W, C); inside a
stage tokens are (B, T, C), window after window.
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from mmcv.cnn import build_activation_layer, build_norm_layer
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..arch import NUM_STAGES, Architecture, as_architecture
from ..cost import count_macs, token_grids
from ..ops.attention import attend
from ..ops.merging import norm_and_reduce
from ..ops.resample import resample_positions
from ..registry import MODELS
from ..tokens import (
    as_pair,
    as_window_sizes,
    check_token_stride,
    check_windows,
    embed_padding,
    embedded,
    merge_padding,
    warn_of_single_tokens,
    window_count,
    window_length,
)
from .backbone import Backbone
from .checks import as_stages, check
from .token_projection import TokenConv2d, check_projection

Config = dict[str, Any]

# torch.fx cannot trace Python arithmetic on sizes, so functions that need it are wrapped: they stay calls.
torch.fx.wrap('attend')


# -- patch embedding, patch merging, positions -----------------------------------------------------------


class PatchEmbed(nn.Module):
    """Image (B, in_channels, H, W) to tokens (B, ceil(H / stride), ceil(W / stride), width)."""

    def __init__(
        self, in_channels: int, width: int, kernel: int, stride: int, norm_cfg: Config | None
    ) -> None:
        super().__init__()
        self.proj = TokenConv2d(in_channels, width, kernel, stride)
        self.norm = build_norm(norm_cfg, width)

    def forward(self, x: Tensor) -> Tensor:
        proj = self.proj
        kernel = proj.enlarged * proj.kernel_size[0]
        x = pad_for_embedding(x, kernel, proj.stride[0], proj.dilation[0])
        return self.norm(proj(x).permute(0, 2, 3, 1))  # (B, C, H, W) -> (B, H, W, C)


class PatchMerging(nn.Module):
    """Tokens (B, H, W, C) to (B, H / 2, W / 2, out_width); odd sides by ``tokens.MERGE_ROUNDINGS``.

    Patches of kernel x kernel tokens at stride 2, channel-major as ``torch.nn.Unfold`` orders them,
    then a norm over C * kernel * kernel and a linear layer without bias.
    """

    def __init__(
        self, width: int, out_width: int, kernel: int, norm_cfg: Config | None, rounding: str
    ) -> None:
        super().__init__()
        self.kernel, self.rounding = kernel, rounding
        self.norm = build_norm(norm_cfg, kernel * kernel * width)
        self.reduction = nn.Linear(kernel * kernel * width, out_width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = pad_for_merging(x, self.kernel, self.rounding)
        patches = x.unfold(1, self.kernel, 2).unfold(2, self.kernel, 2)  # (B, h, w, C, K, K)
        if torch.jit.is_scripting():
            return self.reduction(self.norm(patches.flatten(3)))
        else:
            return norm_and_reduce(patches, self.norm, self.reduction)


@torch.fx.wrap
def pad_for_embedding(x: Tensor, kernel: int, stride: int, dilation: int) -> Tensor:
    """Zero-pad an image (B, C, H, W) so that the convolution gives ceil(side / stride) tokens per side."""
    top, bottom = embed_padding(x.shape[2], kernel, stride, dilation)
    left, right = embed_padding(x.shape[3], kernel, stride, dilation)
    return F.pad(x, (left, right, top, bottom))


@torch.fx.wrap
def pad_for_merging(x: Tensor, kernel: int, rounding: str = 'up') -> Tensor:
    """Zero-pad tokens (B, H, W, C) so that patches of ``kernel`` tokens at stride 2 end at their edge."""
    top, bottom = merge_padding(x.shape[1], kernel, rounding)
    left, right = merge_padding(x.shape[2], kernel, rounding)
    return F.pad(x, (0, 0, left, right, top, bottom))


@torch.fx.wrap
def add_positions(x: Tensor, pos: Tensor) -> Tensor:
    """Tokens (B, H, W, C) plus the position embedding (1, h, w, C), resampled if its size differs."""
    rows, columns = x.shape[1], x.shape[2]
    # A symbolic size of an export cannot be compared; resampling to its own size changes nothing.
    symbolic = is_symbolic(rows) or is_symbolic(columns)
    if symbolic or pos.shape[1] != rows or pos.shape[2] != columns:
        pos = resample_positions(pos, rows, columns)
    return x + pos


def is_symbolic(size: int) -> bool:
    """Whether this is a symbol of torch.export; TorchScript has none, and no such type."""
    return not torch.jit.is_scripting() and isinstance(size, torch.SymInt)


@torch.fx.wrap
def resize_map(x: Tensor, image: Tensor, stride: int, stage: int, merge_rounding: str) -> Tensor:
    """Resize a map (B, C, h, w) of a stage to the size that it has at a token stride (bilinear)."""
    size = token_grids(image.shape[2:], stride, merge_rounding)[stage]
    return F.interpolate(x, size, mode='bilinear')


# -- windows ---------------------------------------------------------------------------------------------


@torch.fx.wrap
def partition_windows(
    x: Tensor, split: int, window_size: int | None
) -> tuple[Tensor, int, Tensor | None]:
    """Cut a token map (B, H, W, C) into windows, padded at the bottom and right where they do not tile it.

    Args:
        split: windows per side; ignored if ``window_size`` is given.
        window_size: tokens per side of a window; None: (side / ``split``), rounded up.

    Returns:
        Tokens (B, windows * N, C), window after window; N, the number of tokens per window; and the attention
        mask (B * windows, 1, 1, N), True where a token is not padding, or None without padding.
    """
    batch, height, width, channels = x.shape
    rows, window_h = _windows(height, split, window_size)
    columns, window_w = _windows(width, split, window_size)
    bottom, right = rows * window_h - height, columns * window_w - width
    mask: Tensor | None = None
    if _is_padded(bottom) or _is_padded(right):
        valid = F.pad(x.new_ones((height, width), dtype=torch.bool), (0, right, 0, bottom))
        valid = valid.view(rows, window_h, columns, window_w).transpose(1, 2)
        valid = valid.reshape(1, rows * columns, window_h * window_w)
        mask = valid.expand(batch, -1, -1).flatten(0, 1)[:, None, None]
        x = F.pad(x, (0, 0, 0, right, 0, bottom))
    x = x.reshape(batch, rows, window_h, columns, window_w, channels).transpose(2, 3)
    return x.reshape(batch, -1, channels), window_h * window_w, mask


@torch.fx.wrap
def reverse_windows(
    x: Tensor, size: tuple[int, int], split: int, window_size: int | None
) -> Tensor:
    """The inverse of :func:`partition_windows`: (B, windows * N, C) to (B, *size, C), without padding."""
    rows, window_h = _windows(size[0], split, window_size)
    columns, window_w = _windows(size[1], split, window_size)
    x = x.reshape(x.shape[0], rows, columns, window_h, window_w, x.shape[-1]).transpose(2, 3)
    x = x.reshape(x.shape[0], rows * window_h, columns * window_w, x.shape[-1])
    return x[:, : size[0], : size[1]]


def _windows(side: int, split: int, window_size: int | None) -> tuple[int, int]:
    """Along one side of a map: the number of windows, and tokens per window."""
    # A symbolic size is not compared: a window larger than the map is padded and masked, not cut.
    if window_size is None or not is_symbolic(side):
        window_size = window_length(side, split, window_size)
    return window_count(side, window_size), window_size


def _is_padded(amount: int) -> bool:
    """Whether there is padding; a symbolic amount in an export counts unless it is known to be 0."""
    if torch.jit.is_scripting():
        return amount != 0
    elif isinstance(amount, torch.SymInt):
        return not statically_known_true(amount == 0)
    return amount != 0


# -- block and stage -------------------------------------------------------------------------------------


class WindowAttention(nn.Module):
    """Multi-head self-attention inside each window of ``window`` tokens: (B, T, C) to the same.

    No shift, no relative position bias. A head is floor(C / heads) wide, so all heads may be narrower than C.
    """

    def __init__(
        self, width: int, num_heads: int, drop_rate: float = 0.0, attn_drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        self.num_heads, self.head_dim = num_heads, width // num_heads
        self.scale, self.attn_drop_rate = self.head_dim**-0.5, attn_drop_rate
        self.qkv = nn.Linear(width, 3 * num_heads * self.head_dim)
        self.proj = nn.Linear(num_heads * self.head_dim, width)
        self.proj_drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor, window: int, mask: Tensor | None = None) -> Tensor:
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(-1, window, 3, self.num_heads, self.head_dim)  # B * windows
        out = attend(qkv, self.scale, mask, self.attn_drop_rate if self.training else 0.0)
        return self.proj_drop(self.proj(out.reshape(batch, tokens, -1)))


class FeedForward(nn.Module):
    """Linear, activation, linear on every token: (..., C) to the same."""

    def __init__(self, width: int, hidden: int, act_cfg: Config, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = build_activation_layer(act_cfg)
        self.fc2 = nn.Linear(hidden, width)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))


class Block(nn.Module):
    """Pre-norm transformer block on windows: x + attention(norm x), then x + feed-forward(norm x)."""

    def __init__(
        self,
        width: int,
        num_heads: int,
        expansion: int,
        drop_rate: float,
        attn_drop_rate: float,
        drop_path_rate: float,
        norm_cfg: Config | None,
        act_cfg: Config,
    ) -> None:
        super().__init__()
        self.norm1 = build_norm(norm_cfg, width)
        self.attn = WindowAttention(width, num_heads, drop_rate, attn_drop_rate)
        self.norm2 = build_norm(norm_cfg, width)
        self.ffn = FeedForward(width, expansion * width, act_cfg, drop_rate)
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate > 0 else nn.Identity()

    def forward(self, x: Tensor, window: int, mask: Tensor | None = None) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x), window, mask))
        return x + self.drop_path(self.ffn(self.norm2(x)))


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
        self.split, self.window_size = split, window_size
        self.with_cp = with_cp

    def forward(self, x: Tensor) -> Tensor:
        x = self.merging(x)
        size = x.shape[1], x.shape[2]
        x, window, mask = partition_windows(x, self.split, self.window_size)
        for block in self.blocks:
            keep = not (self.with_cp and self.training and torch.is_grad_enabled())
            if torch.jit.is_scripting() or keep:
                x = block(x, window, mask)
            else:
                x = checkpoint(block, x, window, mask, use_reentrant=False)
        return reverse_windows(x, size, self.split, self.window_size)


# -- norms -----------------------------------------------------------------------------------------------


class MapNorm(nn.LayerNorm):
    """LayerNorm of a token map (B, H, W, C) that returns (B, C, H, W); a module for hooks to attach to."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2).contiguous()


class ToMap(nn.Module):
    """Token map (B, H, W, C) to (B, C, H, W): what replaces MapNorm where there are no norms."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2).contiguous()


def build_norm(norm_cfg: Config | None, width: int) -> nn.Module:
    """A norm over the last axis; None is the identity, as the length distortion needs it."""
    return nn.Identity() if norm_cfg is None else build_norm_layer(norm_cfg, width)[1]


# -- backbone --------------------------------------------------------------------------------------------


@MODELS.register_module()
class AsViT(Backbone):
    """As-ViT backbone: image to feature maps.

    Args:
        arch: a preset (``'seed'``, ``'small'``, ``'base'``, ``'large'``), an architecture string or a
            dict of :class:`~asvit_mm.arch.Architecture`'s fields.
        img_size: pixels per side, or (height, width); determines only the grid of the position embedding:
            inputs may have any size.
        in_channels: channels of the image.
        out_indices: stages (0-3, or negative from the end) whose maps are returned, each through a norm of
            its own. Stages behind the last are not built, and their weights in a checkpoint ignored.
        drop_rate: dropout after the embedding and, in every block, after the attention's output projection
            and both feed-forward layers.
        attn_drop_rate: dropout of the attention weights, in training, by torch's attention.
        drop_path_rate: stochastic depth of the last block, to which it grows linearly from 0 in the first.
        use_abs_pos_embed: learned absolute position embedding, one vector per token of the full grid.
        token_stride: pixels between two tokens of the first stage (see ``set_token_stride``); None: the
            architecture's, the full grid.
        token_projection: how the patch embedding's kernel covers a coarser token: 'dilate' spreads its taps,
            as in the paper; 'resize' enlarges it as FlexiViT does (arXiv 2212.08013), so that it sees all
            pixels and answers as the kernel does to a smaller image.
        window_size: tokens per side of a window, in all stages or in each; None: (token grid / split),
            so that windows grow with the image.
        merge_rounding: what patch merging makes of an odd side of tokens, as coarse grids have: one of
            ``asvit_mm.tokens.MERGE_ROUNDINGS``.
        keep_map_sizes: at a coarser token stride, enlarge the maps to the sizes of the full grid (bilinear),
            for necks and heads that are made for its strides, 4, 8, 16 and 32 pixels, as mmdet's are.
        with_cp: activation checkpointing of every block, which trades time for memory in training.
        frozen_stages: -1: none; 0: the embedding; k: the embedding and the first k stages. mmdet's Swin
            counts like this; mmpretrain's freezes one stage more for the same number.
        norm_cfg: config of every norm; None for identities (the network of the length distortion).
        act_cfg: of the feed-forward layers.
        init_cfg: MMEngine's, a pretrained checkpoint for instance. Without it weights are drawn as in the
            paper: linear truncated normal with std 0.02, biases 0, norms 1 and 0, convolution as torch does.

    Raises:
        InputError: a setting outside what is allowed, the architecture included.
    """

    __jit_unused_properties__ = ('is_init', 'base_token_stride')  # what TorchScript cannot type

    def __init__(
        self,
        arch: str | Mapping[str, Any] | Architecture = 'small',
        img_size: int | Sequence[int] = 224,
        in_channels: int = 3,
        out_indices: int | Sequence[int] = (3,),
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        use_abs_pos_embed: bool = True,
        token_stride: int | None = None,
        token_projection: str = 'dilate',
        window_size: int | Sequence[int | None] | None = None,
        merge_rounding: str = 'up',
        keep_map_sizes: bool = False,
        with_cp: bool = False,
        frozen_stages: int = -1,
        norm_cfg: Config | None = dict(type='LN'),  # noqa: B006 (never changed; the ecosystem's form)
        act_cfg: Config = dict(type='GELU'),  # noqa: B006
        init_cfg: Config | list[Config] | None = None,
    ) -> None:
        rates = drop_rate, attn_drop_rate, drop_path_rate
        check(
            in_channels, rates, frozen_stages, with_cp, norm_cfg, act_cfg, merge_rounding, init_cfg
        )
        super().__init__(init_cfg=init_cfg)
        self.out_indices = as_stages(out_indices)
        check_projection(token_projection)
        self.token_projection = token_projection
        self.architecture = arch = as_architecture(arch)
        self.img_size = height, width = as_pair(img_size)
        self.in_channels, self.window_sizes = in_channels, as_window_sizes(window_size)
        self.merge_rounding, self.keep_map_sizes = merge_rounding, keep_map_sizes
        self.frozen_stages, widths = frozen_stages, arch.widths
        self.embed_dims, self.num_features = widths[0], list(widths)  # as OpenMMLab's Swin has them

        kernel = arch.kernels[0]
        self.patch_embed = PatchEmbed(in_channels, widths[0], kernel, arch.stride, norm_cfg)
        self.set_token_stride(arch.stride if token_stride is None else token_stride)
        # (1, rows, columns, C): the grid can be read off the shape when it has to be resampled.
        grid = embedded(height, arch.stride), embedded(width, arch.stride)
        positions = torch.zeros(1, *grid, widths[0])
        self.pos_embed = nn.Parameter(positions) if use_abs_pos_embed else None
        self.drop_after_pos = nn.Dropout(drop_rate)

        drop_path = iter(np.linspace(0, drop_path_rate, sum(arch.depths)).tolist())
        self.stages = nn.ModuleList()
        for i, w in enumerate(widths[: self.out_indices[-1] + 1]):
            merging: nn.Module = nn.Identity()
            if i > 0:
                merging = PatchMerging(widths[i - 1], w, arch.kernels[i], norm_cfg, merge_rounding)
            heads, expansion = arch.stage_heads[i], arch.expansions[i]
            blocks = [
                Block(w, heads, expansion, drop_rate, attn_drop_rate, p, norm_cfg, act_cfg)
                for p in islice(drop_path, arch.depths[i])
            ]
            self.stages.append(
                Stage(merging, blocks, arch.splits[i], self.window_sizes[i], with_cp)
            )
        for i in self.out_indices:
            norm = build_norm({**norm_cfg, 'type': MapNorm}, widths[i]) if norm_cfg else ToMap()
            self.add_module(f'norm{i}', norm)

        warn_of_single_tokens(arch, self.img_size, self.window_sizes)
        self.reset_parameters()
        self._freeze()

    def embed(self, x: Tensor) -> Tensor:
        """Image (B, in_channels, H, W) to tokens (B, rows, columns, C) with their positions."""
        x = self.patch_embed(x)
        if self.pos_embed is not None:
            x = add_positions(x, self.pos_embed)
        return self.drop_after_pos(x)

    @torch.jit.unused  # the norms are found by name
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Image (B, in_channels, H, W) to one (B, C_i, H_i, W_i) map for each of ``out_indices``."""
        image, maps = x, []
        x = self.embed(x)
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in self.out_indices:
                out = getattr(self, f'norm{i}')(x)
                if self.keep_map_sizes and self.token_stride != self.base_token_stride:
                    out = resize_map(out, image, self.base_token_stride, i, self.merge_rounding)
                maps.append(out)
        return tuple(maps)

    def last_tokens(self, x: Tensor) -> Tensor:
        """Image to the tokens of the last stage before the output norm, (B, H, W, C)."""
        x = self.embed(x)
        for stage in self.stages:
            x = stage(x)
        return x

    def pooled_tokens(self, x: Tensor) -> Tensor:
        """The mean of :meth:`last_tokens`, (B, C): the output z of which the measures are functions."""
        return self.last_tokens(x).mean((1, 2))

    # Progressive tokenization: the methods of asvit_mm.token_schedule.TokenizedBackbone.

    @property
    def base_token_stride(self) -> int:
        """Pixels between two tokens of the full grid."""
        return self.architecture.stride

    @property
    def token_stride(self) -> int:
        """Pixels between two tokens of the first stage."""
        return self.patch_embed.proj.stride[0]

    @property
    def token_dilation(self) -> int | None:
        """Dilation of the patch embedding's convolution; None: its kernel is enlarged."""
        return self.patch_embed.proj.dilation[0] if self.patch_embed.proj.enlarged == 1 else None

    def set_token_stride(self, stride: int, dilation: int | None = None) -> None:
        """Make the tokens coarser or finer (paper, section 3.5); all weights stay as they are.

        Args:
            stride: pixels between two tokens, an integer from the architecture's up.
            dilation: of the patch embedding; None: by ``token_projection`` the kernel is enlarged, or
                dilated by :func:`~asvit_mm.tokens.default_dilation`.

        Raises:
            InputError: another stride or dilation, or to enlarge the kernel to no multiple of its stride.
        """
        base, resized = self.base_token_stride, self.token_projection == 'resize'
        check_token_stride(stride, dilation, base)
        self.patch_embed.proj.set_stride(stride, dilation, base if resized else None)

    def check_token_stride(self, stride: int, dilation: int | None = None) -> None:
        """Raise an InputError for a stride at which images of ``img_size`` cannot be trained.

        It must be a multiple of the full grid's and leave every stage as many tokens per side as windows.
        """
        base = self.base_token_stride
        check_token_stride(stride, dilation, base, multiple_of=base)
        if self.window_sizes == (None,) * NUM_STAGES and stride != base:
            check_windows(self.img_size, stride, self.architecture.splits, self.merge_rounding)

    def token_grids(self, stride: int) -> tuple[tuple[int, int], ...]:
        """(height, width) of the token grid of each stage for images of ``img_size``."""
        return token_grids(self.img_size, stride, self.merge_rounding)

    def count_macs(self, stride: int) -> int:
        """Multiply-adds of the backbone for one image of ``img_size``; see :mod:`asvit_mm.cost`."""
        return count_macs(
            self.architecture,
            self.img_size,
            in_channels=self.in_channels,
            token_stride=stride,
            token_projection=self.token_projection,
            window_size=self.window_sizes,
            merge_rounding=self.merge_rounding,
        )

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
