"""Part "correct": is what the device computes right, deterministic and compiled as it should be?"""

import copy
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from ...arch import PRESETS
from ...measures import MEASURES, ImageCircle, length_distortion, measure, ntk_condition_number
from ...models import AsViT
from ...token_schedule import STRIDES
from .hook_runs import HookRuns
from .rows import (
    TINY,
    Context,
    Figures,
    Job,
    Skipped,
    check,
    random_images,
    relative_difference,
)

ROOT = Path(__file__).parents[3]
SEED = PRESETS['seed']
COMPILED = '5,2,2,1|3,2,3,1|2,1,2,1|3,1,2,1|16,16'  # a block per stage: less to compile
# What rounding may change, as a share of the norm. TF32 has 10 bits of mantissa, bfloat16 has 7.
PRECISIONS = {
    'float32': (torch.float32, False, 2e-5),
    'float32, convolutions in TF32 (default)': (torch.float32, True, 3e-3),
    'autocast to bfloat16': (torch.bfloat16, True, 5e-2),
    'autocast to float16': (torch.float16, True, 1e-2),
}


def jobs(context: Context) -> Iterator[Job]:
    """All checks, the quick ones first."""
    golden = 'float64 against the published code'
    for index in range(2 if context.quick else 5):
        yield Job(golden, f'golden figures {index + 1}', partial(_golden, context, index))
    for name in PRECISIONS:
        yield Job('precision against float64', name, partial(_precision, context, name))
    for name in MEASURES:
        for dtype in ('float64', 'float32'):
            run = partial(_measure, context, name, dtype)
            yield Job('measures against float64 on the CPU', f'{name}, {dtype}', run)
    for size in ((64, 64), (37, 53), (20, 90)):
        for window in (None, 7):
            name = f'{size[0]} x {size[1]}, {f"windows of {window}" if window else "grid / splits"}'
            run = partial(_any_size, context, size, window)
            yield Job('any size, masked padding: float64 against the CPU', name, run)
    training = 'training'
    yield Job(training, 'activation checkpointing', partial(_checkpointing, context))
    yield Job(training, 'frozen stages', partial(_frozen, context))
    runs = HookRuns(context)
    yield Job(training, 'progressive tokenization, deterministic', runs.check_phases)
    yield Job(training, 'resumed in the second phase', runs.check_resumed)
    yield Job('tests', 'python -m pytest -m cuda', partial(_marked_tests, context))
    for mode in ('inference', 'training'):
        run = partial(_compiled, context, mode == 'training')
        yield Job('torch.compile', f'{mode}, strides 16, 8, 4 and again', run)


# ---- Forward passes and measures


def _golden_module() -> ModuleType:
    path = ROOT / 'tests' / 'golden.py'
    if not path.exists() or not path.with_name('reference_figures.json').exists():
        raise Skipped('tests/reference_figures.json is missing: run this in the repository')
    spec = importlib.util.spec_from_file_location('asvit_mm_golden', path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _golden(context: Context, index: int) -> Figures:
    golden = _golden_module()
    entry = golden.ENTRIES[index]
    size, norm = entry['img_size'], dict(type='LN')

    def images(count: int, seed: int) -> Tensor:
        return random_images(count, size, seed=seed).double().to(context.device)

    model = golden.golden_backbone(entry, norm_cfg=norm).to(context.device)
    with torch.no_grad():
        features = model.pooled_tokens(images(2, 0))
    gaussian = torch.randn(3 * size * size, 2, generator=torch.Generator().manual_seed(1))
    circle = ImageCircle(torch.linalg.qr(gaussian.double())[0], size)
    norm_free = golden.golden_backbone(entry, norm_cfg=None).to(context.device)
    fresh = golden.golden_backbone(entry, norm_cfg=norm, reset_norms=True).to(context.device)
    found = {
        'features': _difference(features[:, :6], entry['pooled_features_first6']),
        'length_distortion': _difference(
            length_distortion(norm_free, circle).value, entry['length_distortion_sum']
        ),
        'ntk_condition_number': _difference(
            ntk_condition_number(fresh, images(8, 2)).value, entry['ntk_condition_number']
        ),
    }
    return check(max(found.values()), 1e-8, **found, arch=entry['arch'])


def _difference(value: Any, expected: Any) -> float:
    """The relative difference of numbers, or of lists of them, in float64."""
    pair = (torch.as_tensor(x, dtype=torch.float64) for x in (value, expected))
    return relative_difference(*pair)


def _precision(context: Context, name: str) -> Figures:
    """Maps and gradients of a network in float64, and the same in another precision."""
    dtype, tf32, tolerance = PRECISIONS[name]
    if tf32 and dtype == torch.float32 and context.device == 'cpu':
        raise Skipped('there is no TF32 on a CPU')
    if dtype == torch.float16 and context.device == 'cpu':
        raise Skipped('float16 is meant for GPUs')
    torch.manual_seed(0)
    exact = AsViT(TINY if context.quick else 'small', img_size=64 if context.quick else 224)
    other = copy.deepcopy(exact).to(context.device)
    exact = exact.double().to(context.device)
    x = random_images(4, exact.img_size[0]).to(context.device)
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = tf32
    try:
        with torch.autocast(context.device, dtype, enabled=dtype != torch.float32):
            result = other(x)[0]
        expected = exact(x.double())[0]
        weights = random_images(1, 8).double().sum() * torch.ones_like(expected).cumsum(1)
        (expected * weights / weights.norm()).sum().backward()
        (result * (weights / weights.norm()).to(result)).float().sum().backward()
    finally:
        torch.backends.cudnn.allow_tf32 = before
    return check(
        relative_difference(result, expected),
        tolerance,
        gradient_difference=relative_difference(_gradients(other), _gradients(exact)),
    )


def _gradients(model: torch.nn.Module) -> Tensor:
    """The gradients of all parameters as one vector, in float64."""
    grads = [p.grad for p in model.parameters()]
    return torch.cat([grad.flatten().double() for grad in grads if grad is not None])


def _measure(context: Context, name: str, dtype: str) -> Figures:
    size = 32 if context.quick else 64
    arguments: dict[str, Any] = dict(names=[name], img_size=size, repeat=1)
    images = random_images(4 if context.quick else 8, size)[None]
    (expected,) = measure(SEED, images, dtype=torch.float64, **arguments).values()
    precision = getattr(torch, dtype)
    (score,) = measure(SEED, images, dtype=precision, device=context.device, **arguments).values()
    difference = _difference(score.value, expected.value)
    tolerance = 1e-6 if dtype == 'float64' else 2e-2
    return check(difference, tolerance, value=score.value, expected=expected.value)


def _any_size(context: Context, size: tuple[int, int], window: int | None) -> Figures:
    torch.manual_seed(0)
    model = AsViT(TINY, img_size=64, window_size=window, out_indices=(0, 1, 2, 3)).double()
    results = []
    for device in ('cpu', context.device):
        x = random_images(2, *size).double().to(device).requires_grad_()
        maps = model.to(device)(x)
        (gradient,) = torch.autograd.grad(sum(m.square().sum() for m in maps), x)
        results.append(torch.cat([t.flatten().cpu() for t in (*maps, gradient)]))
    with torch.no_grad(), context.autocast():
        low = model.float()(x.float())
    rounded = relative_difference(low[3].float(), maps[3])
    figures = check(relative_difference(results[1], results[0]), 1e-10, bfloat16=rounded)
    return figures | {'passed': figures['passed'] and rounded < 5e-2}


# ---- Training


def _checkpointing(context: Context) -> Figures:
    x = random_images(2, 64).double().to(context.device)
    gradients = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        model = AsViT(TINY, img_size=64, with_cp=with_cp).double().to(context.device).train()
        model(x)[0].square().sum().backward()
        gradients.append(_gradients(model))
    return check(relative_difference(gradients[1], gradients[0]), 1e-12)


def _frozen(context: Context) -> Figures:
    """A step of AdamW: what is frozen stays, bit by bit, and everything else moves."""
    torch.manual_seed(0)
    model = AsViT(TINY, img_size=64, frozen_stages=2).to(context.device).train()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-2)
    with context.autocast():
        loss = model(random_images(2, 64).to(context.device))[0].square().sum()
    loss.backward()
    optimizer.step()
    frozen = ('patch_embed.', 'pos_embed', 'stages.0.', 'stages.1.')
    wrong = [
        name
        for name, p in model.named_parameters()
        if torch.equal(p, before[name]) != name.startswith(frozen)
    ]
    return {'parameters': len(before), 'wrong': len(wrong), 'passed': not wrong}


# ---- Compilation and tests


def _compiled(context: Context, training: bool) -> Figures:
    """One graph (``fullgraph``), compiled once per token stride, with the values of eager execution."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend('aot_eager' if context.device == 'cpu' else 'inductor')
    torch.manual_seed(0)
    model = AsViT(COMPILED, img_size=64).to(context.device).train(training)
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    x = random_images(4, 64).to(context.device)
    worst = 0.0
    for stride in (*STRIDES, *STRIDES):
        model.set_token_stride(stride)
        vectors = []
        for function in (model, compiled):
            with torch.set_grad_enabled(training):
                y = function(x)[0]
            model.zero_grad(set_to_none=True)
            if training:
                y.square().sum().backward()
            vectors.append(_gradients(model) if training else y)
        worst = max(worst, relative_difference(vectors[1], vectors[0]))
    figures = check(worst, 5e-3, compilations=counter.frame_count, phases=len(STRIDES))
    return figures | {'passed': figures['passed'] and counter.frame_count == len(STRIDES)}


def _marked_tests(context: Context) -> Figures:
    if missing := [name for name in ('pytest', 'hypothesis') if not importlib.util.find_spec(name)]:
        raise Skipped(f'{missing[0]} is not installed')
    # Other files may need what a bare machine does not have, such as compiled operators of mmcv.
    files = [str(f) for f in (ROOT / 'tests').rglob('test_*.py') if 'mark.cuda' in f.read_text()]
    if not files:
        raise Skipped('the folder tests/ is missing')
    words = [sys.executable, '-m', 'pytest', '-m', 'cuda', '-q', '-p', 'no:cacheprovider']
    words += ['--continue-on-collection-errors']
    words += [f for f in files if 'test_ops' in f or not context.quick]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=context.left())
    lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or ['']
    failed = [line for line in lines if line.startswith(('FAILED', 'ERROR'))]
    return {'summary': lines[-1], 'failures': failed[:20], 'passed': done.returncode == 0}
