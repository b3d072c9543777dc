"""mmpretrain's VisionTransformer with tokens that can change, for progressive tokenization."""

from typing import Any

from mmpretrain.models import VisionTransformer

from ..registry import MODELS
from ..tokens import check_token_stride, default_dilation, embedded


@MODELS.register_module()
class TokenizedVisionTransformer(VisionTransformer):
    """mmpretrain's VisionTransformer, with the methods that progressive tokenization needs.

    The patch embedding changes stride and dilation; the position embedding is resampled as mmpretrain does
    for images of another size. Arguments, weights and state dict are mmpretrain's.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.base_token_stride: int = self.patch_embed.projection.stride[0]

    @property
    def token_stride(self) -> int:
        """Pixels between two tokens."""
        return self.patch_embed.projection.stride[0]

    @property
    def token_dilation(self) -> int:
        """Dilation of the patch embedding's convolution."""
        return self.patch_embed.projection.dilation[0]

    def set_token_stride(self, stride: int, dilation: int | None = None) -> None:
        """Make the tokens coarser or finer; parameters and state dict stay as they are."""
        check_token_stride(stride, dilation)
        projection = self.patch_embed.projection
        if dilation is None:
            dilation = default_dilation(stride, projection.kernel_size[0])
        for module in (projection, self.patch_embed.adaptive_padding):
            module.stride, module.dilation = (stride, stride), (dilation, dilation)

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
        embedding = rows * columns * weight.numel()
        layer = tokens * (4 * width * width + 2 * width * hidden) + 2 * tokens * tokens * width
        return embedding + self.num_layers * layer
