"""The projection of a patch embedding, whose stride can change."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from ..ops.resample import enlarge_kernel, kernel_resize_matrix
from ..tokens import TOKEN_PROJECTIONS, check_token_stride, default_dilation

# It asks for the device of its argument, which torch.fx cannot trace.
torch.fx.wrap('enlarge_kernel')


class TokenConv2d(nn.Conv2d):
    """A convolution without padding whose stride can change, and whose kernel can be enlarged with it.

    Attributes:
        enlarged: factor that the kernel is enlarged by, see :func:`asvit_mm.ops.resample.enlarge_kernel`.
    """

    def __init__(self, in_channels: int, width: int, kernel: int, stride: int) -> None:
        super().__init__(in_channels, width, kernel, stride)
        self.enlarged = 1
        self.matrix = torch.zeros(0)  # no part of the state: it follows from the factor

    def set_stride(self, stride: int, dilation: int | None, base: int | None = None) -> None:
        """Change the stride; without a dilation, enlarge the kernel by stride / ``base`` if that is given."""
        resized = dilation is None and base is not None
        check_token_stride(stride, dilation, multiple_of=base if resized and base else 1)
        if dilation is None:
            dilation = 1 if resized else default_dilation(stride, self.kernel_size[0])
        self.stride, self.dilation = (stride, stride), (dilation, dilation)
        self.enlarged = stride // base if resized and base else 1
        if self.enlarged > 1:
            self.matrix = kernel_resize_matrix(self.kernel_size[0], self.enlarged)

    def forward(self, x: Tensor) -> Tensor:
        if self.enlarged == 1:
            return self._conv_forward(x, self.weight, self.bias)
        return F.conv2d(x, enlarge_kernel(self.weight, self.matrix), self.bias, self.stride)


def check_projection(token_projection: str) -> None:
    """Raise an InputError for a way to cover coarse tokens that there is not."""
    if token_projection not in TOKEN_PROJECTIONS:
        raise InputError(
            f'{token_projection = } is not allowed: give one of {", ".join(TOKEN_PROJECTIONS)}'
        )
