"""mmpretrain's VisionTransformer with tokens that can change, for progressive tokenization."""

from typing import Any

from mmpretrain.models import VisionTransformer

from ..registry import MODELS
from ..tokens import check_token_stride, embedded
from .token_projection import TokenConv2d, check_projection


@MODELS.register_module()
class TokenizedVisionTransformer(VisionTransformer):
    """mmpretrain's VisionTransformer, with the methods that progressive tokenization needs.

    The patch embedding changes stride and dilation; the position embedding is resampled as mmpretrain does
    for images of another size. Arguments, weights and state dict are mmpretrain's.

    Args:
        token_projection: how the patch embedding's kernel covers a coarser token, as AsViT's.
    """

    def __init__(self, *args: Any, token_projection: str = 'dilate', **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        check_projection(token_projection)
        self.token_projection = token_projection
        given = self.patch_embed.projection
        self.base_token_stride: int = given.stride[0]
        self.patch_embed.projection = TokenConv2d(
            given.in_channels, given.out_channels, given.kernel_size[0], given.stride[0]
        )
        self.patch_embed.projection.weight = given.weight
        self.patch_embed.projection.register_parameter('bias', given.bias)

    @property
    def token_stride(self) -> int:
        """Pixels between two tokens."""
        return self.patch_embed.projection.stride[0]

    @property
    def token_dilation(self) -> int | None:
        """Dilation of the patch embedding's convolution; None: its kernel is enlarged."""
        projection = self.patch_embed.projection
        return projection.dilation[0] if projection.enlarged == 1 else None

    def set_token_stride(self, stride: int, dilation: int | None = None) -> None:
        """Make the tokens coarser or finer; parameters and state dict stay as they are."""
        projection, padding = self.patch_embed.projection, self.patch_embed.adaptive_padding
        base = self.base_token_stride if self.token_projection == 'resize' else None
        projection.set_stride(stride, dilation, base)
        reach = projection.enlarged * projection.kernel_size[0]
        padding.kernel_size = (reach, reach)
        padding.stride, padding.dilation = projection.stride, projection.dilation

    def check_token_stride(self, stride: int, dilation: int | None = None) -> None:
        """Raise an InputError for a stride that is not allowed, or not a multiple of the patch size."""
        check_token_stride(stride, dilation, multiple_of=self.base_token_stride)

    def token_grids(self, stride: int) -> tuple[tuple[int, int], ...]:
        """(height, width) of the one grid of tokens for images of ``img_size``."""
        height, width = (embedded(side, stride) for side in self.img_size)
        return ((height, width),)

    def count_macs(self, stride: int) -> int:
        """Multiply-adds of the backbone for one image of ``img_size``, attention's products included."""
        ((rows, columns),) = self.token_grids(stride)
        tokens, width = rows * columns + self.num_extra_tokens, self.embed_dims
        hidden = self.arch_settings['feedforward_channels']
        weight = self.patch_embed.projection.weight
        enlarged = stride // self.base_token_stride if self.token_projection == 'resize' else 1
        embedding = rows * columns * weight.numel() * enlarged**2
        layer = tokens * (4 * width * width + 2 * width * hidden) + 2 * tokens * tokens * width
        return embedding + self.num_layers * layer
