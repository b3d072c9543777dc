"""Attention, feed-forward layers and patch merging on some tokens at a time, within the caches.

On a CPU what a training step spends beside its matrix products goes to memory: queries, keys and values are
three times the tokens that they are made of, a hidden layer E times, patches of kernel 4 four times, and each
is asked from the system, written and read again by every operation between two products. In chunks none of
them is ever there as a whole, nor what leaves a norm or an activation. For the backward pass attention keeps
its tokens and what the heads give, and computes the norm, queries, keys and values again; feed-forward layers
keep their tokens and what goes into the activation; merging keeps its tokens and cuts them again. Attention
runs so where memory is to be saved (``with_cp='attention'``), since computing again takes time. Values differ
from those of the layers one after the other by rounding only. Figures: docs/performance.md.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .attention import attend, attention_backward, attention_forward, mask_fits, takes_native
from .gelu import gelu, gelu_backward_
from .linear import SMALLEST, linear, onednn_is_on, onednn_takes, product, weight_gradient
from .plain import is_plain

# Numbers of what is widest in a chunk, and rows of it, at least, for a matrix product at full speed.
SIZE, ROWS = 1 << 19, 512
# Heads in a chunk, at least, for as many threads: in its backward pass each is one thread's.
HEADS_AT_ONCE = 16

# Weight and bias of a LayerNorm; none where there is no norm.
Norm = tuple[Tensor | None, Tensor | None]


class Heads(NamedTuple):
    """What attention has beside its tensors."""

    number: int
    scale: float  # of the scores
    eps: float  # of the norm before it

    def split(self, rows: Tensor, tokens: int) -> Tensor:
        """Rows (N, 3 * heads * dim) to windows (N / tokens, tokens, 3, heads, dim)."""
        return rows.view(-1, tokens, 3, self.number, rows.shape[-1] // (3 * self.number))


def attention(
    x: Tensor,
    norm: Norm,
    qkv: tuple[Tensor, Tensor],
    proj: tuple[Tensor, Tensor],
    heads: Heads,
    mask: Tensor | None = None,
) -> Tensor:
    """proj(attention(qkv(norm(x)))) of what :func:`takes_attention`; differentiable any number of times.

    Args:
        x: tokens of windows, (B, windows, N, C).
        norm: weight and bias of a LayerNorm, (C,), or two None.
        qkv: weight (3 * heads * dim, C) and bias of the layer that makes queries, keys and values.
        proj: weight (C, heads * dim) and bias (C,) of the one from all heads.
        heads: their number, the scores' scale and the norm's eps.
        mask: (B * windows, 1, 1, N), true where a token may be attended to; None: everywhere.

    Returns:
        (B, windows, N, C).
    """
    out: Tensor = _ChunkedAttention.apply(x, *norm, *qkv, *proj, heads, mask)
    return out


def takes_attention(
    x: Tensor,
    norm: Norm,
    qkv: tuple[Tensor, Tensor],
    proj: tuple[Tensor, Tensor],
    heads: Heads,
    mask: Tensor | None = None,
) -> bool:
    """Whether :func:`attention` is for these: plain tensors that fit, enough of them, and a gradient wanted.

    Without a gradient the layers one after the other are as fast.
    """
    return (
        takes_native(x)
        and _wants_gradient(x, *norm, *qkv, *proj)
        and x.ndim == 4
        and onednn_takes(x, *qkv)
        and is_plain(*proj)
        and proj[0].shape[1:] == (len(qkv[0]) / 3,)
        and proj[0].shape[1] % heads.number == 0
        and proj[1].shape == proj[0].shape[:1]
        and _norm_fits(norm, x)
        and mask_fits(mask, x.shape[0] * x.shape[1], x.shape[2], x.device)
    )


def feed_forward(
    x: Tensor, norm: Norm, fc1: tuple[Tensor, Tensor], fc2: tuple[Tensor, Tensor], eps: float
) -> Tensor:
    """fc2(GELU(fc1(norm(x)))) of what :func:`takes_feed_forward`; differentiable any number of times.

    Args:
        x: tokens, (..., C).
        norm: weight and bias of a LayerNorm, (C,), or two None.
        fc1: weight (hidden, C) and bias (hidden,).
        fc2: weight (C, hidden) and bias (C,).
        eps: of the LayerNorm.

    Returns:
        (..., C).
    """
    if _wants_gradient(x, *norm, *fc1, *fc2):
        out: Tensor = _ChunkedFeedForward.apply(x, *norm, *fc1, *fc2, eps)
        return out
    parts = [
        product(product(_norm(part, *norm, eps)[0], *fc1, gelu=True), *fc2)
        for part in chunks(x.flatten(0, -2), len(fc1[0]))
    ]
    return _joined(parts).view(*x.shape[:-1], -1)


def takes_feed_forward(
    x: Tensor, norm: Norm, fc1: tuple[Tensor, Tensor], fc2: tuple[Tensor, Tensor]
) -> bool:
    """Whether :func:`feed_forward` is for these: plain tensors that fit, and enough of them."""
    return (
        onednn_takes(x, *fc1)
        and is_plain(*fc2)
        and fc2[0].shape[1:] == fc1[0].shape[:1]
        and fc2[1].shape == fc2[0].shape[:1]
        and _norm_fits(norm, x)
    )


def merge(
    x: Tensor, norm: tuple[Tensor, Tensor], weight: Tensor, kernel: int, eps: float
) -> Tensor:
    """linear(LayerNorm(patches)): (B, H, W, C) to (B, h, w, out); differentiable any number of times.

    Args:
        x: padded tokens, which patches of ``kernel`` tokens at stride 2 tile.
        norm: weight and bias of the LayerNorm, (C * kernel * kernel,), channel-major.
        weight: of the linear layer, (out, C * kernel * kernel).
        kernel: tokens a side of a patch.
        eps: of the LayerNorm.
    """
    rows = x.shape[0] * ((x.shape[1] - kernel) // 2 + 1) * ((x.shape[2] - kernel) // 2 + 1)
    # The weights are laid out anew, which is worth it where patches outnumber them.
    pays = rows >= 2 * len(weight) and rows * weight.numel() >= SMALLEST
    fits = weight.shape[1:] == norm[0].shape == norm[1].shape == (kernel**2 * x.shape[-1],)
    if not (pays and fits and is_plain(x, *norm, weight) and onednn_is_on()):
        return merge_plainly(x, *norm, weight, kernel, eps)
    # Made contiguous here, where autograd sees it.
    out: Tensor = _ChunkedMerging.apply(x.contiguous(), *norm, weight, kernel, eps)
    return out


def attention_plainly(
    tensors: tuple[Tensor, ...], heads: Heads, mask: Tensor | None = None
) -> Tensor:
    """The layers of :func:`attention`, ``tensors`` being all of its, one after the other."""
    x, scale, shift, weight1, bias1, weight2, bias2 = tensors
    rows = linear(_norm_plainly(x, scale, shift, heads.eps), weight1, bias1).flatten(0, 2)
    out = attend(heads.split(rows, x.shape[2]), heads.scale, mask)
    return linear(out.flatten(2), weight2, bias2).view(*x.shape[:-1], -1)


def feed_forward_plainly(tensors: tuple[Tensor, ...], eps: float) -> Tensor:
    """The layers of :func:`feed_forward`, ``tensors`` being all of its, one after the other."""
    x, scale, shift, weight1, bias1, weight2, bias2 = tensors
    return linear(
        F.gelu(linear(_norm_plainly(x, scale, shift, eps), weight1, bias1)), weight2, bias2
    )


def _norm_plainly(x: Tensor, scale: Tensor | None, shift: Tensor | None, eps: float) -> Tensor:
    return x if scale is None else F.layer_norm(x, scale.shape, scale, shift, eps)


def merge_plainly(
    x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, kernel: int, eps: float
) -> Tensor:
    """The layers one after the other."""
    patches = x.unfold(1, kernel, 2).unfold(2, kernel, 2).flatten(3)  # (B, h, w, C * K * K)
    return linear(F.layer_norm(patches, scale.shape, scale, shift, eps), weight)


class _ChunkedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor | None,
        shift: Tensor | None,
        weight1: Tensor,
        bias1: Tensor,
        weight2: Tensor,
        bias2: Tensor,
        heads: Heads,
        mask: Tensor | None,
    ) -> Tensor:
        kept, outs = [], []
        for windows, part in _windows(x, len(weight1), heads):
            rows = product(_norm(part, scale, shift, heads.eps)[0], weight1, bias1)
            qkv = heads.split(rows, x.shape[2])
            out, log_sums = attention_forward(qkv, heads.scale, _of(mask, windows))
            outs.append(product(out.flatten(2).flatten(0, 1), weight2, bias2))
            if any(ctx.needs_input_grad[:6]):
                kept += [out, log_sums]
        ctx.save_for_backward(x, scale, shift, weight1, bias1, weight2, bias2, mask, *kept)
        ctx.heads = heads
        return _joined(outs).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        x, scale, shift, weight1, bias1, weight2, _, mask, *kept = saved
        heads, needs = ctx.heads, ctx.needs_input_grad
        # Only a gradient that is to be differentiated itself is computed with gradients enabled; hooks may
        # have kept what is saved in another type or place.
        fits = mask_fits(mask, x.shape[0] * x.shape[1], x.shape[2], x.device)
        if torch.is_grad_enabled() or not (fits and _all_plain(grad, *saved[:7], *kept)):

            def attended(*inputs: Any) -> Tensor:
                return attention_plainly(inputs, heads, None if mask is None else mask.bool())

            return *_gradients(attended, saved[:7], needs, grad), None, None
        of_x: list[Any] = []
        grads, sums = grad.contiguous().flatten(0, 1), _Sums()
        for i, (windows, part) in enumerate(_windows(x, len(weight1), heads)):
            of_out = grads[windows].flatten(0, 1)
            if needs[6]:
                sums.add(6, of_out.sum(0))
            if not kept:  # the gradient of the last bias alone is wanted
                continue
            out, log_sums = (one.contiguous() for one in kept[2 * i : 2 * i + 2])
            if needs[5]:
                sums.add(5, weight_gradient(of_out, out.flatten(2).flatten(0, 1)))
            if not any(needs[:5]):
                continue
            of_heads = product(of_out, weight2.t()).view_as(out)
            norm = _norm(part, scale, shift, heads.eps)
            qkv = heads.split(product(norm[0], weight1, bias1), x.shape[2])
            of_qkv = attention_backward(
                qkv, out, log_sums, of_heads, heads.scale, _of(mask, windows)
            )
            of_rows = of_qkv.view(len(of_out), -1)
            of_x.append(sums.add_first(of_rows, part, norm, (scale, shift), weight1, needs))
        return (
            _joined(of_x).view_as(x) if needs[0] else None,
            *map(sums.get, range(1, 7)),
            None,
            None,
        )


class _ChunkedFeedForward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor | None,
        shift: Tensor | None,
        weight1: Tensor,
        bias1: Tensor,
        weight2: Tensor,
        bias2: Tensor,
        eps: float,
    ) -> Tensor:
        hidden, outs = [], []
        for part in chunks(x.flatten(0, -2), len(weight1)):
            before = product(_norm(part, scale, shift, eps)[0], weight1, bias1)
            outs.append(product(gelu(before), weight2, bias2))
            if any(ctx.needs_input_grad[:6]):
                hidden.append(before)
        ctx.save_for_backward(x, scale, shift, weight1, bias1, weight2, bias2, *hidden)
        ctx.eps = eps
        return _joined(outs).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        x, scale, shift, weight1, _, weight2, _, *hidden = saved
        eps, needs = ctx.eps, ctx.needs_input_grad
        if torch.is_grad_enabled() or not _all_plain(grad, *saved):

            def fed(*inputs: Any) -> Tensor:
                return feed_forward_plainly(inputs, eps)

            return *_gradients(fed, saved[:7], needs, grad), None
        of_x: list[Any] = []
        rows, sums = grad.flatten(0, -2), _Sums()
        parts = zip(chunks(x.flatten(0, -2), len(weight1)), chunks(rows, len(weight1)), strict=True)
        # Of the bias of fc2 alone nothing is kept.
        for (part, of_out), before in zip(parts, hidden, strict=bool(hidden)):
            before = before.contiguous()  # which hooks may have changed as well
            if not any(needs[:5]):
                sums.add(5, weight_gradient(of_out, gelu(before)))
                continue
            of_hidden = product(of_out, weight2.t())
            if needs[5]:
                sums.add(5, weight_gradient(of_out, gelu_backward_(before, of_hidden)))
            else:
                torch.ops.aten.gelu_backward.grad_input(of_hidden, before, grad_input=of_hidden)
            norm = _norm(part, scale, shift, eps)
            of_x.append(sums.add_first(of_hidden, part, norm, (scale, shift), weight1, needs))
        if needs[6]:
            sums.add(6, rows.sum(0))
        return _joined(of_x).view_as(x) if needs[0] else None, *map(sums.get, range(1, 7)), None


class _ChunkedMerging(torch.autograd.Function):
    """Patches are laid out token by token here, as tokens lie in memory; weights follow them."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, kernel: int, eps: float
    ) -> Tensor:
        ctx.save_for_backward(x, scale, shift, weight)
        ctx.kernel, ctx.eps = kernel, eps
        scaled, bias = _by_token(weight * scale, kernel), F.linear(shift, weight)
        outs = [
            product(_normalised(patches, eps)[0], scaled, bias).unflatten(0, patches.shape[:3])
            for _, patches in _patches(x, kernel)
        ]
        return _joined(outs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        x, scale, shift, weight = saved
        kernel, eps, needs = ctx.kernel, ctx.eps, ctx.needs_input_grad
        if torch.is_grad_enabled() or not is_plain(grad, *saved):

            def merged(x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor) -> Tensor:
                return merge_plainly(x, scale, shift, weight, kernel, eps)

            return *_gradients(merged, saved, needs, grad), None, None
        # What hooks have kept may have another layout.
        x, grad, scaled = x.contiguous(), grad.contiguous(), _by_token(weight * scale, kernel)
        of_x = torch.zeros_like(x) if needs[0] else None
        sums = _Sums()
        for images, patches in _patches(x, kernel):
            normalised, mean, inverse = _normalised(patches, eps)
            of_out = grad[images].flatten(0, 2)
            if needs[1] or needs[3]:
                sums.add(0, weight_gradient(of_out, normalised))
            if of_x is not None:
                of_normalised = product(of_out, scaled.t())
                of_patches = torch.ops.aten.native_layer_norm_backward(
                    of_normalised,
                    patches.flatten(0, 2).flatten(1),
                    scale.shape,
                    mean,
                    inverse,
                    None,
                    None,
                    [True, False, False],
                )[0]
                _add_patches(of_x[images], of_patches.view_as(patches))
        # Of the product of weight and scale, which the patches see, and of the bias that shift makes.
        of_bias = grad.flatten(0, 2).sum(0)
        of_scaled = _by_channel(sums[0], kernel) if 0 in sums else None
        return (
            of_x,
            (of_scaled * weight).sum(0) if of_scaled is not None and needs[1] else None,
            of_bias @ weight if needs[2] else None,
            of_scaled * scale + of_bias[:, None] * shift
            if of_scaled is not None and needs[3]
            else None,
            None,
            None,
        )


class _Sums(dict[int, Tensor]):
    """Sums by name of what the chunks give."""

    def add(self, name: int, value: Tensor) -> None:
        if name in self:
            self[name] += value
        else:
            self[name] = value

    def add_first(
        self,
        grad: Tensor,
        rows: Tensor,
        normed: tuple[Tensor, Tensor | None, Tensor | None],
        norm: Norm,
        weight: Tensor,
        needs: Sequence[bool],
    ) -> Tensor | None:
        """Back through a chunk's norm and first linear layer, rows (N, C) being what went in.

        Sums 1 to 4, of the norm's and the layer's weight and bias, grow; returned is the rows' gradient, if
        it is needed. ``normed`` is what :func:`_norm` gave, ``needs`` as autograd numbers them.
        """
        if needs[3]:
            self.add(3, weight_gradient(grad, normed[0]))
        if needs[4]:
            self.add(4, grad.sum(0))
        if not any(needs[:3]):
            return None
        grad = product(grad, weight.t())
        if norm[0] is None:
            return grad
        of_rows, *of_norm = torch.ops.aten.native_layer_norm_backward(
            grad, rows, norm[0].shape, *normed[1:], *norm, list(needs[:3])
        )
        for name, value in enumerate(of_norm, 1):
            if needs[name]:
                self.add(name, value)
        return of_rows


def chunks(rows: Tensor, width: int) -> Sequence[Tensor]:
    """Rows (N, C) in contiguous views of about equally many, for layers of which one is ``width`` wide."""
    count = max(1, round(len(rows) / _rows(width)))
    return rows.contiguous().split(-(-len(rows) // count))


def _rows(width: int) -> int:
    return max(ROWS, SIZE // width)


def _windows(x: Tensor, width: int, heads: Heads) -> Iterator[tuple[slice, Tensor]]:
    """Windows of a chunk, of (B, windows, N, C), and their rows, for a layer of ``width`` outputs."""
    windows = x.contiguous().flatten(0, 1)
    most = max(_rows(width) / x.shape[2], HEADS_AT_ONCE / heads.number)
    count = max(1, round(len(windows) / most))
    size = -(-len(windows) // count)
    for start in range(0, len(windows), size):
        taken = slice(start, min(start + size, len(windows)))
        yield taken, windows[taken].flatten(0, 1)


def _of(mask: Tensor | None, windows: slice) -> Tensor | None:
    return None if mask is None else mask[windows]


def _norm(
    rows: Tensor, scale: Tensor | None, shift: Tensor | None, eps: float
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Rows (N, C) through a norm, if there is one; their means and inverse deviations, (N, 1)."""
    if scale is None:
        return rows, None, None
    return torch.native_layer_norm(rows, scale.shape, scale, shift, eps)


def _norm_fits(norm: Norm, x: Tensor) -> bool:
    scale, shift = norm
    if scale is None or shift is None:
        return scale is shift
    return is_plain(scale, shift) and scale.shape == shift.shape == x.shape[-1:]


def _wants_gradient(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(one is not None and one.requires_grad for one in tensors)


def _all_plain(*tensors: Tensor | None) -> bool:
    return is_plain(*(one for one in tensors if one is not None))


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _patches(x: Tensor, kernel: int) -> Iterator[tuple[slice, Tensor]]:
    """Images of a chunk and their patches (images, h, w, kernel, kernel * C), of tokens (B, H, W, C)."""
    batch, height, width, channels = x.shape
    rows, columns = (height - kernel) // 2 + 1, (width - kernel) // 2 + 1
    count = max(1, round(_rows(kernel * kernel * channels) / (rows * columns)))
    for start in range(0, batch, count):
        images = slice(start, min(start + count, batch))
        part = x[images]
        line = width * channels
        # A patch's row of tokens is one stretch of memory.
        size = (len(part), rows, columns, kernel, kernel * channels)
        strides = (height * line, 2 * line, 2 * channels, line, 1)
        yield images, part.as_strided(size, strides, part.storage_offset()).contiguous()


def _add_patches(x: Tensor, patches: Tensor) -> None:
    """Add patches (images, h, w, kernel, kernel * C) to the tokens (images, H, W, C) that they are of."""
    rows, columns, kernel = patches.shape[1:4]
    tokens = patches.unflatten(-1, (kernel, -1))
    for i in range(kernel):
        for j in range(kernel):
            x[:, i : i + 2 * rows - 1 : 2, j : j + 2 * columns - 1 : 2] += tokens[:, :, :, i, j]


def _normalised(patches: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Each patch less its mean over its deviation, (N, K * K * C); its mean and inverse deviation, (N, 1)."""
    rows = patches.flatten(0, 2).flatten(1)
    return torch.native_layer_norm(rows, rows.shape[1:], None, None, eps)


def _by_token(weight: Tensor, kernel: int) -> Tensor:
    """Weights (out, C * K * K) in the order of :func:`_patches`, (out, K * K * C)."""
    return weight.unflatten(1, (-1, kernel * kernel)).transpose(1, 2).flatten(1)


def _by_channel(weight: Tensor, kernel: int) -> Tensor:
    """The inverse of :func:`_by_token`."""
    return weight.unflatten(1, (kernel * kernel, -1)).transpose(1, 2).flatten(1)


def _gradients(
    function: Callable[..., Tensor],
    inputs: Sequence[Any],
    needs: Sequence[bool],
    grad: Tensor,
) -> tuple[Tensor | None, ...]:
    """Gradients of a function of plain operations, which can be differentiated and batched."""
    with torch.enable_grad():
        # Nodes of their own, so that no path leads from one input to another and no hook is called here.
        own: list[Any] = [one if one is None else one.view_as(one) for one in inputs]
        out = function(*own)
    wanted = [one for one, needed in zip(own, needs, strict=False) if needed]
    found = iter(torch.autograd.grad(out, wanted, grad, create_graph=torch.is_grad_enabled()))
    return tuple(next(found) if needed else None for needed in needs[: len(inputs)])
