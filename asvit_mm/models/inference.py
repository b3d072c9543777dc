"""As-ViT for inference on a CPU: the same network with its layers laid out and fused once.

oneDNN keeps a linear layer's weights in its own layout and adds bias and GELU while a result is still in
registers; torch's plain layers lay the weights out at every call. Everything that depends on weights only is
computed here, once: the result is a copy that never follows a later change of the original's weights, and
cannot be trained.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from ..ops.attention import attend, fused_dim, takes_native
from .asvit import AsViT, Stage
from .chunked.parts import chunks
from .layers import Block, pad_heads
from .linear import product
from .merging import PatchMerging, inverse_deviation, merging_filters, pad_for_merging


def optimize_for_inference(model: nn.Module) -> nn.Module:
    """A copy of ``model`` for float32 inference on a CPU, its As-ViT backbones packed.

    Outputs agree with the model's to float32 rounding (1e-5 of the largest). The copy holds the weights of
    its layers once, linear ones in oneDNN's layout: it has no gradients and no state dict worth saving,
    cannot be copied, pickled or compiled, and does not run under autocast.

    Args:
        model: an :class:`AsViT`, or a model that contains some, such as an mmpretrain classifier.

    Raises:
        InputError: no AsViT in it, packed already, not a float32 model on the CPU, another activation
            than GELU, or a torch without oneDNN.
    """
    if not torch.backends.mkldnn.is_available():
        raise InputError('this torch has no oneDNN: use the model as it is')
    backbones = [module for module in model.modules() if isinstance(module, AsViT)]
    if not backbones:
        raise InputError(f'{type(model).__name__} has no AsViT to optimize: use the model as it is')
    if any(isinstance(module, PackedBlock) for module in model.modules()):
        raise InputError('the model is packed already: give the one that it was made of')
    for backbone in backbones:
        weight = backbone.patch_embed.proj.weight
        if weight.device.type != 'cpu' or weight.dtype != torch.float32:
            raise InputError(
                f'a {weight.dtype} model on {weight.device} cannot be packed: give a float32 model on the CPU'
            )
    model = copy.deepcopy(model).eval().requires_grad_(False)
    for backbone in [module for module in model.modules() if isinstance(module, AsViT)]:
        for stage in backbone.stages:
            assert isinstance(stage, Stage)
            if isinstance(stage.merging, PatchMerging) and stage.merging.can_convolve:
                stage.merging = PackedMerging(stage.merging)
            blocks = [block for block in stage.blocks if isinstance(block, Block)]
            assert len(blocks) == len(stage.blocks)
            stage.blocks = nn.ModuleList(map(PackedBlock, blocks))
    return model


class PackedLinear(nn.Module):
    """A linear layer in oneDNN's layout, with an optional GELU: (..., in) to (..., out)."""

    def __init__(self, weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> None:
        super().__init__()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
        self.bias = bias
        self.gelu = gelu

    def forward(self, x: Tensor) -> Tensor:
        return product(x, self.packed, self.bias, gelu=self.gelu)


class PackedBlock(nn.Module):
    """A :class:`Block` for inference: four packed linear layers, feed-forward layers in chunks of tokens.

    Residuals are added in place: oneDNN's product that adds them itself is several times slower on AVX2.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        attention, feed_forward = block.attn, block.ffn
        if not isinstance(feed_forward.act, nn.GELU) or feed_forward.act.approximate != 'none':
            raise InputError(
                f'{feed_forward.act} cannot be fused: only GELU can; use the model as it is'
            )
        self.num_heads, self.scale = attention.qkv.num_heads, attention.scale
        self.hidden = feed_forward.fc1.out_features
        self.dim = attention.qkv.head_dim
        if not takes_native(attention.qkv.weight):
            self.dim = fused_dim(self.dim)
        padding = self.dim - attention.qkv.head_dim
        weight, bias = attention.qkv.padded(padding)
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.qkv = PackedLinear(weight, bias)
        self.proj = PackedLinear(
            pad_heads(attention.proj.weight, self.num_heads, padding), attention.proj.bias
        )
        self.fc1 = PackedLinear(feed_forward.fc1.weight, feed_forward.fc1.bias, gelu=True)
        self.fc2 = PackedLinear(feed_forward.fc2.weight, feed_forward.fc2.bias)

    @torch.no_grad()
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        qkv = self.qkv(self.norm1(x)).flatten(0, 1).unflatten(-1, (3, self.num_heads, self.dim))
        out = attend(qkv, self.scale, mask)
        x = self.proj(out.flatten(-2).unflatten(0, x.shape[:2])).add_(x)
        for tokens in chunks(x.flatten(0, -2), self.hidden):
            tokens.add_(self.fc2(self.fc1(self.norm2(tokens))))
        return x


class PackedMerging(nn.Module):
    """A :class:`PatchMerging` for inference: one convolution, filters made once, and patches' deviations."""

    def __init__(self, merging: PatchMerging) -> None:
        super().__init__()
        assert isinstance(merging.norm, nn.LayerNorm)
        self.kernel, self.eps = merging.kernel, merging.norm.eps
        self.rounding = merging.rounding
        self.filters, self.bias = merging_filters(
            merging.norm, merging.reduction.weight, merging.kernel
        )

    def forward(self, x: Tensor) -> Tensor:
        x = pad_for_merging(x, self.kernel, self.rounding)
        products = F.conv2d(x.permute(0, 3, 1, 2), self.filters, stride=2).permute(0, 2, 3, 1)
        return (products * inverse_deviation(x, self.kernel, self.eps)).add_(self.bias)
