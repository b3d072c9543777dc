"""Part "fast": inference and training steps beside Swin, ConvNeXt and plain ViT; attention heads."""

import time
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ...arch import PRESETS, as_architecture
from ...cost import token_grids
from ..benchmark import CHANNELS_LAST, COMPILED, Contestant, Setting
from .rows import TINY, Context, Figures, Job, seconds_per_call

CLASSES = (
    ('small', 'timm:swin_tiny_patch4_window7_224', 'timm:vit_small_patch16_224'),
    ('base', 'timm:swin_small_patch4_window7_224'),
    ('large', 'timm:swin_base_patch4_window7_224', 'timm:vit_base_patch16_224'),
)
CONVNEXT = ('timm:convnext_tiny', 'timm:convnext_small', 'timm:convnext_base')
MMPRETRAIN = (
    *(f'mmpretrain:swin-{size}_16xb64_in1k' for size in ('tiny', 'small', 'base')),
    *(f'mmpretrain:convnext-{size}_32xb128_in1k' for size in ('tiny', 'small', 'base')),
    *('mmpretrain:deit-small_4xb256_in1k', 'mmpretrain:vit-base-p16_32xb128-mae_in1k'),
)
ALL = tuple(name for group in CLASSES for name in group)
QUICK = (TINY, 'timm:test_vit')


def jobs(context: Context) -> Iterator[Job]:
    """The rows that tell most come first: a time limit cuts the others."""
    yield Job('matrix product', 'bfloat16, square', partial(_matrix_product_row, context))
    plan = _plan(context.quick)
    done_attention = False
    for mode, batch, compiled, names in plan:
        if mode == 'attention':
            yield from _attention_jobs(context)
            done_attention = True
        for name in names:
            how = 'compiled' if compiled else 'eager'
            table = f'{mode}, bfloat16 autocast, {how}, batch {batch}'
            run = partial(_time_model, context, name, mode == 'training', compiled, batch)
            yield Job(table, name, run, limit=90)
    if not done_attention:
        yield from _attention_jobs(context)


def _plan(quick: bool) -> list[tuple[str, int, bool, tuple[str, ...]]]:
    """Mode, batch, whether compiled, and models of each table, in order."""
    if quick:
        plan = [('inference', 4, False, QUICK), ('training', 4, False, QUICK)]
        return [*plan, ('inference', 4, True, QUICK[:1])]
    first, second, third = CLASSES
    convnext = tuple(name + CHANNELS_LAST for name in CONVNEXT)
    return [
        ('inference', 256, True, first),
        ('training', 256, False, first),
        ('inference', 256, True, (*second, *third)),
        ('training', 256, True, first),
        ('attention', 64, False, ()),
        ('inference', 256, False, (*ALL, *convnext, f'small{CHANNELS_LAST}')),
        ('training', 64, False, (*ALL, *convnext)),
        ('training', 64, True, (*second, *third)),
        ('inference', 256, False, MMPRETRAIN),
        ('training', 64, False, MMPRETRAIN),
        ('inference', 64, False, ALL),
        ('inference', 256, True, convnext),
        ('training', 256, False, (*second, *third, *convnext)),
        ('inference', 64, True, ALL),
    ]


# ---- The device's own speed


@cache
def matrix_product(device: str, side: int) -> float:
    """Multiply-adds per second of a large square matrix product in bfloat16."""
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return side**3 / seconds_per_call(lambda: left @ right, device, 1.0)


def _product(context: Context) -> float:
    return matrix_product(context.device, 256 if context.quick else 8192)


def _matrix_product_row(context: Context) -> Figures:
    return {'TMAC_per_s': _product(context) / 1e12}


# ---- Models


def prepare(context: Context, name: str, training: bool, compiled: bool, batch: int) -> Contestant:
    """Build a model and call it twice, so that everything is compiled and chosen."""
    size = (160 if 'timm:test' in name else 64) if context.quick else 224
    mode = 'training' if training else 'inference'
    options = {'img_size': size}
    setting = Setting(mode, context.device, 'bfloat16', batch, (size, size), options)
    # On a CPU the compiler takes longer than the rehearsal.
    backend = 'inductor' if context.device == 'cuda' else 'aot_eager'
    name += COMPILED * compiled
    return Contestant(name, setting, 2, {'backend': backend, 'dynamic': False})


def _time_model(context: Context, name: str, training: bool, compiled: bool, batch: int) -> Figures:
    begin = time.time()
    timed = prepare(context, name, training, compiled, batch)
    prepared = time.time() - begin
    if context.device == 'cuda':
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    seconds = seconds_per_call(timed.call, context.device, 0.2 if context.quick else 1.5)
    rate = (3 if training else 1) * timed.macs * batch / seconds
    figures = {
        'parameters_M': timed.params / 1e6,
        'GMAC_per_image': timed.macs / 1e9,
        'ms': 1e3 * seconds,
        'images_per_s': batch / seconds,
        'TMAC_per_s': rate / 1e12,
        'percent_of_matrix_product': 100 * rate / _product(context),
        'prepared_s': prepared,
    }
    if context.device == 'cuda':
        figures['peak_MiB'] = torch.cuda.max_memory_allocated() / 2**20
    return figures


# ---- Compilation ahead


def precompile(device: str, quick: bool) -> None:
    """Compile the models that this part times compiled, in its order, into the cache.

    A process that does this while the part "correct" runs saves the timed process most of the compilation.
    """
    context = Context(device, quick, Path())
    rows = [
        (name, mode == 'training', compiled, batch)
        for mode, batch, compiled, names in _plan(quick)
        if compiled
        for name in names
    ]
    for row in rows:
        try:
            prepare(context, *row)
        except Exception as error:  # noqa: BLE001 (the row itself will tell)
            print(f'compiling {row[0]} ahead: {type(error).__name__}', flush=True)
        torch._dynamo.reset()
        if device == 'cuda':
            torch.cuda.empty_cache()


# ---- Attention


def _attention_jobs(context: Context) -> Iterator[Job]:
    """Every size of attention that the presets have with heads that are no multiple of 8 wide."""
    shapes = {}
    for preset in ('small', 'base', 'large'):
        arch = as_architecture(PRESETS[preset])
        grids = token_grids((224, 224))
        for stage, ((side, _), split) in enumerate(zip(grids, arch.splits, strict=True)):
            heads, width = arch.stage_heads[stage], arch.widths[stage] // arch.stage_heads[stage]
            tokens = (side // split) ** 2
            if width % 8 and (preset, tokens, width) not in shapes:
                shapes[preset, tokens, width] = split**2, heads
    if context.quick:
        shapes = {key: value for key, value in shapes.items() if key[1] == 49}
    for (preset, tokens, width), (windows, heads) in shapes.items():
        for masked in (False, True):
            name = f'{preset}: {windows} windows, {tokens} tokens, {heads} heads of {width}'
            batch = windows * (1 if context.quick else 64)
            run = partial(_attention, context, (batch, heads, tokens, width), masked)
            yield Job('attention, bfloat16, ms', name + (', masked' if masked else ''), run)


def _attention(context: Context, shape: tuple[int, int, int, int], masked: bool) -> Figures:
    """Milliseconds of forward, and of forward and backward, with heads padded to a multiple of 8 or not."""
    batch, heads, tokens, width = shape
    pad = -width % 8
    scale = width**-0.5
    mask = None
    if masked:
        mask = torch.ones(batch, 1, 1, tokens, dtype=torch.bool, device=context.device)
        mask[..., -tokens // 7 :] = False

    def attention(qkv: Tensor, extra: int) -> Tensor:
        q, k, v = F.pad(qkv, (0, extra)).permute(2, 0, 3, 1, 4).unbind(0)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
        return out.transpose(1, 2)[..., :width]

    figures: Figures = {}
    for name, stored, extra in (
        ('as_is', width, 0),
        ('padded', width, pad),
        ('stored', width + pad, 0),
    ):
        qkv = torch.randn(
            (batch, tokens, 3, heads, stored), device=context.device, dtype=torch.bfloat16
        ).requires_grad_()

        def forward(qkv: Tensor = qkv, extra: int = extra) -> None:
            with torch.no_grad():
                attention(qkv, extra)

        def both(qkv: Tensor = qkv, extra: int = extra) -> None:
            torch.autograd.grad(attention(qkv, extra).sum(), qkv)

        for what, call in (('forward', forward), ('both', both)):
            seconds = seconds_per_call(call, context.device, 0.15)
            figures[f'{what}_{name}'] = 1e3 * seconds
    return figures
