"""Time the measures against a forward pass of the same images, and against the published procedure.

The published procedure differentiates one output coordinate at a time (--coordinates are timed and scaled
up) and one image at a time through the graph of the whole batch, with explicit attention.
"""

import math
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from asvit_mm.errors import InputError
from asvit_mm.utils.command_line import make_tool, positional
from asvit_mm.utils.files import check_writable


@dataclass(frozen=True)
class BenchmarkMeasuresSettings:
    """What is timed."""

    arch: str = positional(default='seed')
    """a preset or an architecture string"""

    img_size: int = 224
    """pixels per side"""

    angles: int = 10
    """images on the circle of the length distortion"""

    batch_size: int = 16
    """images of the NTK condition number"""

    device: Literal['cpu', 'cuda'] = 'cpu'

    rounds: int = 5
    """repetitions of every call"""

    coordinates: int = 4
    """output coordinates of the published length distortion; 0 leaves the published procedure out"""

    ranks: int = 0
    """sampled architectures to rank in float32 and in float64, to compare the two"""

    json: Path | None = None
    """write the figures to this file"""

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.coordinates < 0 or self.ranks < 0 or self.ranks == 1:
            raise InputError('give at least 1 round, 0 coordinates, and no or at least 2 ranks')
        check_writable(self.json)


def explicit_attention() -> Any:
    """A context in which attention is computed step by step, by differentiable operations."""
    from unittest.mock import patch

    from asvit_mm.models import asvit
    from asvit_mm.ops.attention import explicit_attention

    def attend(qkv: Any, scale: float, mask: Any = None, dropout: float = 0.0) -> Any:
        return explicit_attention(qkv, scale, mask)[0]

    return patch.object(asvit, 'attend', attend)


def published_speeds(model: Any, circle: Any, coordinates: int) -> Any:
    """||dz/dt|| over the first coordinates of the output: one backward pass for each."""
    import torch

    parameter = next(model.parameters())
    t = torch.linspace(0, 2 * math.pi, circle.num_angles, dtype=torch.float64, requires_grad=True)
    points = circle.basis.to(parameter) @ torch.stack([t.cos(), t.sin()]).to(parameter)
    with explicit_attention():
        images = points.T.reshape(len(t), -1, circle.img_size, circle.img_size)
        output = model.pooled_tokens(images)
    rows = [torch.autograd.grad(z.sum(), t, retain_graph=True)[0] for z in output.T[:coordinates]]
    return torch.stack(rows).norm(dim=0) if rows else None


def published_gram(model: Any, images: Any) -> Any:
    """Gram matrix of the per-image gradients: one backward pass per image, gradients on the host."""
    import torch

    weights = [p for name, p in model.named_parameters() if 'weight' in name]
    with explicit_attention():
        output = model.pooled_tokens(images)
    rows = []
    for z in output:
        gradients = torch.autograd.grad(z.sum(), weights, retain_graph=True, allow_unused=True)
        rows.append(torch.cat([g.flatten().cpu() for g in gradients if g is not None]))
    stacked = torch.stack(rows).double()
    return stacked @ stacked.T


def benchmark(settings: BenchmarkMeasuresSettings) -> dict[str, dict[str, float]]:
    """Figures of every measure and forward pass, by name: seconds, and those of the published procedure."""
    import torch

    from asvit_mm.arch import as_architecture
    from asvit_mm.measures import ImageCircle, fresh_network, without_norms
    from asvit_mm.measures.curves import output_derivatives
    from asvit_mm.measures.ntk import ntk_gram
    from asvit_mm.utils.timing import median_and_spread, time_in_turn

    size, device = settings.img_size, settings.device
    if device == 'cuda' and not torch.cuda.is_available():
        raise InputError('device cuda: torch finds no CUDA device; use --device cpu')
    arch = as_architecture(settings.arch)
    coordinates = min(settings.coordinates, arch.widths[-1])
    network = fresh_network(arch, (0,)).to(device).eval()
    norm_free = without_norms(network)
    generator = torch.Generator().manual_seed(0)
    circle = ImageCircle.random(size, generator, num_angles=settings.angles)
    batch = torch.randn(settings.batch_size, 3, size, size, generator=generator).to(device)
    images = circle.images(batch)[0]

    report = partial(print, file=sys.stderr, flush=True)

    def explicit() -> Any:
        with explicit_attention():
            return output_derivatives(norm_free, circle)

    calls: dict[str, Callable[[], Any]] = {
        f'forward pass of {len(images)} images': torch.no_grad()(lambda: network(images)),
        f'forward pass of the batch of {len(batch)}': torch.no_grad()(lambda: network(batch)),
        'length_distortion': lambda: output_derivatives(norm_free, circle),
        'ntk_condition_number': lambda: ntk_gram(network, batch),
        'length_distortion with explicit attention': explicit,
    }
    derivatives, gram = [call() for call in calls.values()][2:4]
    times = map(
        median_and_spread, time_in_turn(list(calls.values()), device, settings.rounds, report)
    )
    figures = {k: {'seconds': s, 'spread': r} for k, (s, r) in zip(calls, times, strict=True)}
    forward, batch_forward, length, kappa, _ = figures.values()
    length['forwards'] = length['seconds'] / forward['seconds']
    kappa['forwards'] = kappa['seconds'] / batch_forward['seconds']
    if coordinates:
        report(f'published procedure: {coordinates} coordinates, {len(batch)} images')
        found: list[Any] = []
        slow = [
            lambda: found.append(published_speeds(norm_free, circle, 0)),
            lambda: found.append(published_speeds(norm_free, circle, coordinates)),
            lambda: found.append(published_gram(network, batch)),
        ]
        (forward_pass,), (some,), (kappa['published_seconds'],) = time_in_turn(slow, device, 1)
        backward_passes = (some - forward_pass) * arch.widths[-1] / coordinates
        length['published_seconds'] = forward_pass + backward_passes
        ratio = derivatives[:, :coordinates].cpu().norm(dim=1) / found[1]
        length['difference'] = (ratio - 1).abs().max().item()
        ours, theirs = (torch.linalg.cond(matrix.cpu()).item() for matrix in (gram, found[2]))
        kappa['difference'] = abs(ours / theirs - 1)
    return figures


def compare_ranks(settings: BenchmarkMeasuresSettings) -> dict[str, dict[str, Any]]:
    """Kendall's tau between float32 and float64 over the n sampled seeds that have a value in both."""
    import numpy as np
    import torch
    from scipy.stats import kendalltau

    from asvit_mm.arch import SEARCH_SPACE
    from asvit_mm.measures import SEARCH_MEASURES, measure

    size, rng = settings.img_size, np.random.default_rng(0)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, settings.batch_size, 3, size, size, generator=generator)
    values = np.empty((len(SEARCH_MEASURES), 2, settings.ranks))
    for i in range(settings.ranks):
        arch = SEARCH_SPACE.sample(rng)
        for k, dtype in enumerate((torch.float32, torch.float64)):
            scores = measure(
                arch,
                images,
                img_size=size,
                repeat=1,
                seed=(0, i),
                device=settings.device,
                dtype=dtype,
            )
            values[:, k, i] = [scores[name].value for name in SEARCH_MEASURES]
    taus = {}
    for name, pair in zip(SEARCH_MEASURES, values, strict=True):
        valid = pair[:, np.isfinite(pair).all(0)]
        taus[name] = {'tau': float(kendalltau(*valid).statistic), 'n': valid.shape[1]}
    return taus


def run(settings: BenchmarkMeasuresSettings) -> None:
    """Time everything in turn and print the figures."""
    from asvit_mm.utils.files import write_figures
    from asvit_mm.utils.timing import device_name

    figures = benchmark(settings)
    print(f'{settings.arch}, {settings.img_size} pixels, {device_name(settings.device)}')
    for name, row in figures.items():
        print(f'{name}:', ', '.join(f'{key} {value:.3g}' for key, value in row.items()))
    taus = compare_ranks(settings) if settings.ranks else {}
    for name, tau in taus.items():
        print(f'{name}: Kendall tau {tau["tau"]:.4f} of float32 and float64, n = {tau["n"]}')
    plain = {**asdict(settings), 'json': str(settings.json)}
    write_figures(settings.json, {'settings': plain, 'figures': figures, 'ranks': taus})


parse_args, main = make_tool(BenchmarkMeasuresSettings, run, __doc__)

if __name__ == '__main__':
    main()
