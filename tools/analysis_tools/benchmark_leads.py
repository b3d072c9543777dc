"""What each idea for a faster backbone gains or loses: variants of one model, side by side in one run.

Every variant computes the same outputs (checked before it is timed); the change is against the model as it
is shipped, in the same rounds.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from asvit_mm.errors import InputError, one_line_errors


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'models', nargs='*', default=['small', 'base'], help='presets or architectures'
    )
    parser.add_argument('--mode', choices=['inference', 'training'], default='inference')
    parser.add_argument('--batch-size', type=int, default=8)
    parser.add_argument('--img-size', type=int, default=224)
    parser.add_argument('--rounds', type=int, default=9)
    parser.add_argument(
        '--only',
        nargs='+',
        metavar='WORD',
        help='variants whose titles have one of these words (default: all)',
    )
    return parser.parse_args()


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """``owner.name`` is ``value`` within the block."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def torch_attention() -> Iterator[None]:
    """Attention through torch's own fused kernel, at the next multiple of 8 of a head's width."""
    from asvit_mm.ops import attention

    with replaced(attention, 'library', lambda source: None):
        yield


@contextmanager
def own_head_width() -> Iterator[None]:
    """torch's kernel at the head's own width."""
    from asvit_mm.models import layers

    with torch_attention(), replaced(layers, 'fused_dim', lambda head_dim: head_dim):
        yield


@contextmanager
def heads_of_16() -> Iterator[None]:
    """torch's kernel at the next multiple of 16."""
    from asvit_mm.models import layers

    with (
        torch_attention(),
        replaced(layers, 'fused_dim', lambda head_dim: -(-head_dim // 16) * 16),
    ):
        yield


@contextmanager
def merging_of_patches() -> Iterator[None]:
    """Patch merging by unfolded patches, norm and linear layer, as in training."""
    from asvit_mm.models import merging

    def forward(self: Any, x: Any) -> Any:
        padded = merging.pad_for_merging(x, self.kernel)
        patches = padded.unfold(1, self.kernel, 2).unfold(2, self.kernel, 2)
        return self.reduction(self.norm(patches.flatten(3)))

    with replaced(merging.PatchMerging, 'forward', forward):
        yield


@contextmanager
def feed_forward_one_by_one() -> Iterator[None]:
    """Feed-forward layers one after the other on all tokens."""
    from asvit_mm.models import layers

    with replaced(layers.FeedForward, 'can_chunk', False):
        yield


@contextmanager
def attention_in_chunks() -> Iterator[None]:
    """Attention with its norm and layers on some windows at a time, as ``with_cp='attention'`` has it."""
    from asvit_mm.models import layers

    def attend(self: Any, x: Any, mask: Any = None) -> Any:
        return layers.after_norm(self.attn, self.norm1, x, mask)

    with replaced(layers.Block, 'attend', attend):
        yield


@contextmanager
def torch_gelu() -> Iterator[None]:
    """GELU, and its derivative after it, through torch's own operations."""
    from asvit_mm.models import gelu

    with replaced(gelu, 'has_kernel', lambda: False):
        yield


@contextmanager
def merging_at_once() -> Iterator[None]:
    """Patches of all images cut by unfolding, norm and linear layer one after the other, in training."""
    from asvit_mm.models import merging
    from asvit_mm.models.chunked.merging import merge_plainly

    def merge(x: Any, norm: Any, weight: Any, kernel: int, eps: float) -> Any:
        return merge_plainly(x, *norm, weight, kernel, eps)

    with replaced(merging, 'merge', merge):
        yield


@contextmanager
def windows_in_every_block() -> Iterator[None]:
    """Windows cut and put together in every block, as Swin and the published code do."""
    from asvit_mm.models import asvit, layers, windows

    def forward(self: Any, x: Any) -> Any:
        x = self.merging(x)
        size = x.shape[1:3]
        window = tuple(
            windows.traced_window_length(side, self.split, self.window_size) for side in size
        )
        for block in self.blocks:
            cut, mask = windows.partition_windows(block.norm1(x), window)
            x = x + windows.reverse_windows(block.attn(cut, mask), window, size)
            x = x + layers.after_norm(block.ffn, block.norm2, x)
        return x

    with replaced(asvit.Stage, 'forward', forward):
        yield


@contextmanager
def explicit_attention() -> Iterator[None]:
    """Scores, softmax and weighted sum as three operations on the whole batch."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.MATH):
        yield


@contextmanager
def chunked_attention() -> Iterator[None]:
    """Explicit attention in chunks of four windows and heads, whose scores fit the cache."""
    import torch
    from torch.nn import functional as F

    def attention(q: Any, k: Any, v: Any, attn_mask: Any = None, scale: float = 1.0) -> Any:
        if attn_mask is not None:
            raise ValueError('the variant knows no padding: choose a size whose windows tile')
        out = torch.empty(q.shape, dtype=q.dtype)
        parts = [x.flatten(0, 1).split(4) for x in (q * scale, k, v, out)]
        for queries, keys, values, result in zip(*parts, strict=True):
            scores = torch.bmm(queries, keys.transpose(1, 2))
            torch.bmm(scores.softmax(-1), values, out=result)
        return out

    with torch_attention(), replaced(F, 'scaled_dot_product_attention', attention):
        yield


@contextmanager
def torch_linear() -> Iterator[None]:
    """Every linear layer through torch's own operation."""
    from asvit_mm.models import linear

    with replaced(linear, 'SMALLEST', float('inf')):
        yield


@contextmanager
def heads_before_split() -> Iterator[None]:
    """torch's kernel, heads moved before tokens and then q, k, v split: gradients are joined by columns."""
    from torch.nn import functional as F

    from asvit_mm.models import layers

    def forward(self: Any, x: Any, mask: Any = None) -> Any:
        q, k, v = self.qkv(x).flatten(0, 1).permute(2, 0, 3, 1, 4).unbind(0)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scale)
        return self.proj_drop(self.proj(out.transpose(1, 2).unflatten(0, x.shape[:2])))

    with torch_attention(), replaced(layers.WindowAttention, 'forward', forward):
        yield


@contextmanager
def chunked_backward() -> Iterator[None]:
    """Attention's backward pass as five batched products on one window and head at a time."""
    import torch
    from torch.nn import functional as F

    class Attention(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, q: Any, k: Any, v: Any, scale: float) -> Any:
            fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
            out, log_sum = fused(q, k, v, 0.0, False, attn_mask=None, scale=scale)
            ctx.save_for_backward(q, k, v, out, log_sum)
            ctx.scale = scale
            return out

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            q, k, v, out, log_sum = (x.flatten(0, 1) for x in ctx.saved_tensors)
            q, grad = q * ctx.scale, grad.flatten(0, 1)
            correction = (grad * out).sum(-1, keepdim=True)
            grads = [torch.empty_like(x) for x in (q, k, v)]
            columns = k.shape[1]
            for i in range(len(q)):
                p = slice(i, i + 1)
                bias = -log_sum[p, :, None].expand(-1, -1, columns)
                weights = torch.baddbmm(bias, q[p], k[p].mT).exp_()
                torch.bmm(weights.mT, grad[p], out=grads[2][p])
                bias = -correction[p].expand(-1, -1, columns)
                scores = torch.baddbmm(bias, grad[p], v[p].mT).mul_(weights)
                torch.bmm(scores, k[p], out=grads[0][p])
                torch.bmm(scores.mT, q[p], out=grads[1][p])
            grads[0] *= ctx.scale
            shape = ctx.saved_tensors[0].shape[:2]
            return *(x.unflatten(0, shape) for x in grads), None

    def attention(q: Any, k: Any, v: Any, attn_mask: Any = None, scale: float = 1.0) -> Any:
        if attn_mask is not None:
            raise ValueError('the variant knows no padding: choose a size whose windows tile')
        return Attention.apply(q, k, v, scale)

    with torch_attention(), replaced(F, 'scaled_dot_product_attention', attention):
        yield


SHIPPED = 'as shipped'
VARIANTS: dict[str, Callable[[], Any]] = {
    "linear layers through torch's own product": torch_linear,
    'feed-forward layers one by one on all tokens': feed_forward_one_by_one,
    'windows cut in every block': windows_in_every_block,
    "attention through torch's own kernel": torch_attention,
    "torch's kernel at the head's own width": own_head_width,
    "torch's kernel at multiples of 16": heads_of_16,
    'explicit attention': explicit_attention,
}
OF_INFERENCE: dict[str, Callable[[], Any]] = {
    'explicit attention in cache-sized chunks': chunked_attention,
    'merging by unfolded patches': merging_of_patches,
}
OF_TRAINING: dict[str, Callable[[], Any]] = {
    "attention in chunks (with_cp='attention')": attention_in_chunks,
    "GELU through torch's own operations": torch_gelu,
    'merging by unfolded patches of all images': merging_at_once,
    "torch's kernel, heads moved before q, k, v are split": heads_before_split,
    "torch's kernel, its backward in cache-sized chunks": chunked_backward,
}


def inference_calls(model: Any, images: Any) -> dict[str, Callable[[], Any]]:
    """The model as shipped and its variants, each as a call without arguments."""
    import torch

    from asvit_mm.models.inference import optimize_for_inference

    model.eval()
    packed = optimize_for_inference(model)

    def variant(context: Callable[[], Any], model: Any = model) -> Callable[[], Any]:
        def call() -> Any:
            with context(), torch.inference_mode():
                return model(images)

        return call

    def one_by_one() -> Any:
        with torch.inference_mode():
            return torch.cat([packed(image) for image in images.split(1)])

    return {
        SHIPPED: variant(nullcontext),
        **{title: variant(context) for title, context in {**VARIANTS, **OF_INFERENCE}.items()},
        'packed (optimize_for_inference)': variant(nullcontext, packed),
        'packed, image by image': one_by_one,
    }


def training_calls(model: Any, images: Any) -> dict[str, Callable[[], Any]]:
    """Forward and backward of the model as shipped and of its variants; each returns the images' gradient."""
    import torch

    model.train()
    images = images.requires_grad_()

    def variant(context: Callable[[], Any]) -> Callable[[], Any]:
        def call() -> Any:
            with context():
                model.zero_grad()
                images.grad = None
                out = model(images)
                # Weighted, because the plain sum of a norm's output is a constant.
                (out * torch.linspace(-1, 1, out[0].numel()).view_as(out[0])).sum().backward()
                return images.grad

        return call

    contexts = {SHIPPED: nullcontext, **VARIANTS, **OF_TRAINING}
    return {title: variant(context) for title, context in contexts.items()}


def main() -> None:
    """Time every variant of every model and print the tables."""
    args = parse_args()
    with one_line_errors():
        import torch
        from rich.console import Console
        from rich.table import Table

        from asvit_mm.analysis import benchmark

        size = (args.img_size, args.img_size)
        setting = benchmark.Setting(mode=args.mode, batch=args.batch_size, size=size)
        calls_of = inference_calls if args.mode == 'inference' else training_calls
        images = torch.randn(args.batch_size, 3, *size, generator=torch.Generator().manual_seed(0))
        for name in args.models:
            torch.manual_seed(0)
            model = benchmark.build_model(name)
            macs = benchmark.count_multiply_adds(model, images[:1]) * args.batch_size
            product, product_macs = benchmark.matrix_product(setting)
            calls = {
                title: call
                for title, call in calls_of(model, images).items()
                if title == SHIPPED or not args.only or any(word in title for word in args.only)
            }
            if len(calls) == 1:
                raise InputError(
                    f'--only {" ".join(args.only)}: no variant has such a word in its title'
                )
            shipped = calls[SHIPPED]()
            for title, call in calls.items():
                error = (call() - shipped).abs().max() / shipped.abs().max()
                if error > 1e-4:
                    raise AssertionError(f'{title}: outputs differ by {error:.1e}')
            seconds = benchmark.time_in_turn(
                [product, *calls.values()],
                'cpu',
                args.rounds,
                lambda text: print(text, file=sys.stderr, flush=True),
            )
            floor, _ = benchmark.median_and_spread(seconds[0])
            table = Table(
                title=f'{name}, {setting}; matrix product {floor * 1e12 / product_macs:.3g} ms/GMAC',
                title_justify='left',
            )
            for column in ('variant', 'ms', 'spread', 'ms/GMAC', 'against shipped'):
                table.add_column(column, justify='left' if column == 'variant' else 'right')
            base, _ = benchmark.median_and_spread(seconds[1])
            for title, taken in zip(calls, seconds[1:], strict=True):
                median, spread = benchmark.median_and_spread(taken)
                table.add_row(
                    title,
                    f'{median * 1e3:.1f}',
                    f'{spread:.0%}',
                    f'{median * 1e12 / macs:.3g}',
                    f'{median / base - 1:+.0%}',
                )
            Console(width=max(110, Console().width)).print(table)


if __name__ == '__main__':
    main()
