"""The networks of the benchmark tables: AutoFormer (Chen et al., ICCV 2021) and PiT (Heo et al., ICCV 2021).

Connected and initialised as in github.com/microsoft/Cream (AutoFormer) and github.com/naver-ai/pit, and as
both are trained for ViT-Bench-101 in github.com/lliai/Auto-Prox-AAAI24. There is no dropout.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MAX_DISTANCE = 14  # of relative positions, in tokens


class RelativePositions(nn.Module):
    """One vector for each pair of tokens, (N, N, dim), by their clipped vertical and horizontal distance.

    The first token is the class token, whose pairs share one vector; the others are a square grid.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.vertical = nn.Parameter(torch.empty(2 * MAX_DISTANCE + 2, dim))
        self.horizontal = nn.Parameter(torch.empty(2 * MAX_DISTANCE + 2, dim))
        for table in (self.vertical, self.horizontal):
            nn.init.trunc_normal_(table, std=0.02)

    def forward(self, tokens: int) -> Tensor:
        """The vectors of so many tokens, (tokens, tokens, dim)."""
        side = round((tokens - 1) ** 0.5)
        place = torch.arange(side * side, device=self.vertical.device)
        total = torch.zeros(())
        for table, along in ((self.vertical, place // side), (self.horizontal, place % side)):
            distance = (along[None] - along[:, None]).clamp(-MAX_DISTANCE, MAX_DISTANCE)
            total = total.to(table) + table[F.pad(distance + MAX_DISTANCE + 1, (1, 0, 1, 0))]
        return total


class Attention(nn.Module):
    """Multi-head self-attention (B, N, C) to the same, perhaps with relative positions."""

    def __init__(self, width: int, heads: int, dim: int, relative: bool) -> None:
        super().__init__()
        self.heads, self.dim = heads, dim
        self.qkv = nn.Linear(width, 3 * heads * dim)
        self.proj = nn.Linear(heads * dim, width)
        self.of_keys = RelativePositions(dim) if relative else None
        self.of_values = RelativePositions(dim) if relative else None

    def forward(self, x: Tensor) -> Tensor:
        """Tokens to tokens."""
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, self.dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, N, dim)
        if self.of_keys is None or self.of_values is None:
            out = F.scaled_dot_product_attention(q, k, v)
        else:
            scores = q @ k.mT + torch.einsum('bhnd,nmd->bhnm', q, self.of_keys(tokens))
            weights = (scores * self.dim**-0.5).softmax(-1)
            out = weights @ v + torch.einsum('bhnm,nmd->bhnd', weights, self.of_values(tokens))
        return self.proj(out.transpose(1, 2).reshape(batch, tokens, -1))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(
        self, width: int, heads: int, dim: int, hidden: int, eps: float, relative: bool = False
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps)
        self.attn = Attention(width, heads, dim, relative)
        self.norm2 = nn.LayerNorm(width, eps)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, N, C) to tokens."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class AutoFormer(nn.Module):
    """AutoFormer: patch 16, class token, position embedding, blocks of their own heads and expansion.

    Args:
        width: of all tokens.
        heads, ratios: of each block; hidden units of a feed-forward layer are int(width * ratio).
        head_dim: of each head; None: width // heads, as in ViT-Bench-101.
        relative: relative positions of keys and values.
        eps: of the norms.
        img_size: pixels a side, for the position embedding.
    """

    def __init__(
        self,
        width: int,
        heads: Sequence[int],
        ratios: Sequence[float],
        head_dim: int | None = 64,
        relative: bool = True,
        eps: float = 1e-5,
        img_size: int = 224,
        num_classes: int = 1000,
    ) -> None:
        super().__init__()
        self.num_features = width
        self.patch_embed = nn.Conv2d(3, width, 16, 16)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + (img_size // 16) ** 2, width))
        self.blocks = nn.Sequential(
            *(
                Block(width, h, head_dim or width // h, int(width * r), eps, relative)
                for h, r in zip(heads, ratios, strict=True)
            )
        )
        self.norm = nn.LayerNorm(width, eps)
        self.head = nn.Linear(width, num_classes)
        for parameter in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(parameter, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) to normalised tokens (B, 1 + H W / 256, C), the class token first."""
        x = self.patch_embed(x).flatten(2).mT
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        return self.norm(self.blocks(x))

    def forward(self, x: Tensor) -> Tensor:
        """Images to the scores of the classes, from the mean of the patch tokens."""
        return self.head(self.forward_features(x)[:, 1:].mean(1))


class Pooling(nn.Module):
    """Halves a token grid by a grouped convolution, and widens the class token by a linear layer."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, out, 3, 2, 1, groups=width)
        self.fc = nn.Linear(width, out)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, 1 + side^2, C), the class token first, to tokens of half the side."""
        side = round((x.shape[1] - 1) ** 0.5)
        grid = self.conv(x[:, 1:].mT.unflatten(2, (side, side)))
        return torch.cat([self.fc(x[:, :1]), grid.flatten(2).mT], 1)


class PiT(nn.Module):
    """PiT: overlapping patches of 16 at stride 8, three stages with pooling between them, class token.

    Args:
        base_dim: width of a head; a stage is base_dim * heads wide.
        depth, heads: of the stages.
        ratio: hidden units over width.
        img_size: pixels a side, for the position embedding.
    """

    def __init__(
        self,
        base_dim: int,
        depth: Sequence[int],
        heads: Sequence[int],
        ratio: float,
        img_size: int = 224,
        num_classes: int = 1000,
    ) -> None:
        super().__init__()
        widths = [base_dim * h for h in heads]
        side = (img_size - 16) // 8 + 1
        self.num_features = widths[-1]
        self.patch_embed = nn.Conv2d(3, widths[0], 16, 8)
        self.pos_embed = nn.Parameter(torch.empty(1, widths[0], side, side))
        self.cls_token = nn.Parameter(torch.empty(1, 1, widths[0]))
        for parameter in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(parameter, std=0.02)
        stages: list[nn.Module] = []
        for i, (w, d, h) in enumerate(zip(widths, depth, heads, strict=True)):
            if i > 0:
                stages.append(Pooling(widths[i - 1], w))
            stages += [Block(w, h, base_dim, int(w * ratio), eps=1e-6) for _ in range(d)]
        self.stages = nn.Sequential(*stages)
        self.norm = nn.LayerNorm(widths[-1], 1e-6)
        self.head = nn.Linear(widths[-1], num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) to normalised tokens (B, 1 + h * w, C), the class token first."""
        x = (self.patch_embed(x) + self.pos_embed).flatten(2).mT
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1)
        return self.norm(self.stages(x))

    def forward(self, x: Tensor) -> Tensor:
        """Images to the scores of the classes, from the class token."""
        return self.head(self.forward_features(x)[:, 0])
