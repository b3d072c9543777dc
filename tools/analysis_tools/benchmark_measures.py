"""What the measures cost: against a forward pass of the same images, and against the published procedure.

The published procedure differentiates one output coordinate at a time (L^E) and one image at a time over the
whole batch's graph (kappa), through explicit attention and torch's own linear layers; --coordinates of the
former are measured and scaled up linearly. Values are compared before anything is printed. --ranks compares
float32 with float64 over sampled architectures.
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asvit_mm.errors import InputError, one_line_errors


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('arch', nargs='?', default='seed', help='a preset or an architecture')
    parser.add_argument('--img-size', type=int, default=224)
    parser.add_argument('--angles', type=int, default=10, help='images of the curve')
    parser.add_argument('--batch-size', type=int, default=16, help='images of the NTK')
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument(
        '--coordinates', type=int, default=4, help='of the published L^E; 0 leaves both out'
    )
    parser.add_argument(
        '--ranks', type=int, default=0, help='architectures to rank in float32 and in float64'
    )
    parser.add_argument('--json', type=Path, help='write the figures here')
    return parser.parse_args()


@contextmanager
def whole_attention() -> Iterator[None]:
    """Attention's derivative by torch's explicit form, every window and head at once."""
    from contextlib import nullcontext
    from importlib import import_module

    module = import_module('asvit_mm.measures.length_distortion')
    pieces, module.DualAttention = module.DualAttention, nullcontext
    try:
        yield
    finally:
        module.DualAttention = pieces


@contextmanager
def published_layers() -> Iterator[None]:
    """Attention and linear layers as the published code has them."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from asvit_mm.models import linear

    smallest, linear.SMALLEST = linear.SMALLEST, math.inf
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        linear.SMALLEST = smallest


def published_output(model: Any, basis: Any, size: int, angles: int) -> tuple[Any, Any]:
    """The angles t and z(t) (angles, C4), with the graph between them."""
    import torch

    parameter = next(model.parameters())
    t = torch.linspace(0, 2 * math.pi, angles, dtype=torch.float64, requires_grad=True)
    circle = torch.stack([t.cos(), t.sin()]).to(parameter)
    images = (basis.to(parameter) @ circle).T.reshape(angles, -1, size, size)
    return t, model.pooled_tokens(images)


def published_derivatives(t: Any, output: Any, coordinates: int) -> Any:
    """dz/dt (angles, coordinates) of the first coordinates: one backward pass each."""
    import torch

    columns = [
        torch.autograd.grad(output[:, i].sum(), t, retain_graph=True)[0] for i in range(coordinates)
    ]
    return torch.stack(columns, 1)


def published_gram(model: Any, images: Any) -> Any:
    """Gram matrix of the images' gradients: one backward pass an image, gradients to the host."""
    import torch

    weights = [p for name, p in model.named_parameters() if 'weight' in name]
    output = model.pooled_tokens(images)
    rows = []
    for z in output:
        gradients = torch.autograd.grad(z.sum(), weights, retain_graph=True, allow_unused=True)
        rows.append(torch.cat([g.flatten().cpu() for g in gradients if g is not None]))
    stacked = torch.stack(rows).double()
    return stacked @ stacked.T


def five_networks(arch: Any, images: Any) -> dict[str, Callable[[], Any]]:
    """A forward pass of five networks with identity norms, one by one and with their weights stacked."""
    import torch
    from torch.func import functional_call, stack_module_state

    from asvit_mm.measures.probe import fresh_network, without_norms

    networks = [
        without_norms(fresh_network(arch, (0, r)).to(images.device)).eval() for r in range(5)
    ]
    parameters, buffers = stack_module_state(networks)

    def one(weights: Any, state: Any) -> Any:
        return functional_call(networks[0], (weights, state), (images,))

    def stacked() -> Any:
        with torch.no_grad():
            return torch.func.vmap(one)(parameters, buffers)

    def one_by_one() -> Any:
        with torch.no_grad():
            return [network(images) for network in networks]

    return {'five networks, one by one': one_by_one, 'five networks, weights stacked': stacked}


def compare_ranks(count: int, size: int, batch: int, device: str) -> dict[str, dict[str, Any]]:
    """Kendall's tau between float32 and float64 of both measures over the n sampled seeds that have both."""
    import numpy as np
    import torch
    from rich.progress import track
    from scipy.stats import kendalltau

    from asvit_mm.arch import SEARCH_SPACE
    from asvit_mm.measures import SEARCH_MEASURES, measure

    rng = np.random.default_rng(0)
    images = torch.randn(1, batch, 3, size, size, generator=torch.Generator().manual_seed(0))
    values: dict[str, list[list[float]]] = {name: [] for name in SEARCH_MEASURES}
    for i in track(range(count), 'ranks in float32 and float64'):
        arch = SEARCH_SPACE.sample(rng)
        scores = [
            measure(arch, images, img_size=size, repeat=1, seed=(0, i), device=device, dtype=dtype)
            for dtype in (torch.float32, torch.float64)
        ]
        for name, rows in values.items():
            rows.append([score[name].value for score in scores])
    taus = {}
    for name, rows in values.items():
        table = np.array(rows)
        valid = np.isfinite(table).all(1)
        taus[name] = {'tau': float(kendalltau(*table[valid].T).statistic), 'n': int(valid.sum())}
    return taus


def main() -> None:
    """Compare the values, time everything in turn, print the table."""
    args = parse_args()
    with one_line_errors():
        import torch
        from rich.console import Console
        from rich.table import Table

        from asvit_mm.arch import as_architecture
        from asvit_mm.measures import curve_basis
        from asvit_mm.measures.length_distortion import output_derivatives
        from asvit_mm.measures.ntk import ntk_gram
        from asvit_mm.measures.probe import fresh_network, without_norms
        from asvit_mm.models.inference import optimize_for_inference
        from asvit_mm.utils import timing
        from asvit_mm.utils.files import atomic_write_json

        if args.rounds < 1 or args.coordinates < 0 or args.ranks < 0 or args.ranks == 1:
            raise InputError('give at least 1 round, 0 coordinates, and no or at least 2 ranks')
        if args.device == 'cuda' and not torch.cuda.is_available():
            raise InputError('device cuda: torch finds no CUDA device; use --device cpu')
        arch, size = as_architecture(args.arch), args.img_size
        coordinates = min(args.coordinates, arch.widths[-1])
        network = fresh_network(arch, (0,)).to(args.device).eval()
        plain = without_norms(network)
        generator = torch.Generator().manual_seed(0)
        basis = curve_basis(size, generator)
        batch = torch.randn(args.batch_size, 3, size, size, generator=generator).to(args.device)
        curve = torch.randn(args.angles, 3, size, size, generator=generator).to(args.device)
        paths = {'eager': network}
        if args.device == 'cpu':
            paths['packed'] = optimize_for_inference(network)

        def forward(model: Any, images: Any) -> Callable[[], Any]:
            def call() -> Any:
                with torch.inference_mode():
                    return model(images)

            return call

        def derivatives() -> Any:
            return output_derivatives(plain, basis, size, args.angles)

        def gram() -> Any:
            return ntk_gram(network, batch)

        def explicit() -> Any:
            with whole_attention():
                return derivatives()

        calls = {
            **{f'forward {args.angles} ({k})': forward(m, curve) for k, m in paths.items()},
            **{f'forward {args.batch_size} ({k})': forward(m, batch) for k, m in paths.items()},
            'length distortion': derivatives,
            "the same, torch's explicit attention": explicit,
            'NTK condition number': gram,
            **five_networks(arch, curve),
        }

        def report(text: str) -> None:
            print(text, file=sys.stderr, flush=True)

        report('warm-up')
        for call in calls.values():
            call()
        seconds = dict(
            zip(
                calls,
                timing.time_in_turn(list(calls.values()), args.device, args.rounds, report),
                strict=True,
            )
        )
        medians = {name: timing.median_and_spread(taken) for name, taken in seconds.items()}
        published: dict[str, float] = {}
        differences: dict[str, float] = {}
        if args.coordinates:
            report(f'published procedure: {coordinates} coordinates, {args.batch_size} images')
            ours, kappa = derivatives().cpu(), torch.linalg.eigvalsh(gram())
            known: dict[str, Any] = {}

            def slow_output() -> None:
                with published_layers():
                    known['output'] = published_output(plain, basis, size, args.angles)

            def slow_derivatives() -> None:
                known['derivatives'] = published_derivatives(*known['output'], coordinates)
                del known['output']

            def slow_gram() -> None:
                with published_layers():
                    known['gram'] = published_gram(network, batch)

            taken = timing.time_in_turn([slow_output, slow_derivatives, slow_gram], args.device, 1)
            (forward_pass,), (backward_passes,), (published['NTK condition number'],) = taken
            published['length distortion'] = (
                forward_pass + backward_passes * arch.widths[-1] / coordinates
            )
            got, expected = ours[:, :coordinates], known['derivatives']
            differences['length distortion'] = float(
                ((got.norm(dim=1) - expected.norm(dim=1)) / expected.norm(dim=1)).abs().max()
            )
            slow_kappa = torch.linalg.eigvalsh(known['gram'])
            ratio, slow_ratio = kappa[-1] / kappa[0], slow_kappa[-1] / slow_kappa[0]
            differences['NTK condition number'] = float(abs(ratio.cpu() / slow_ratio - 1))
        fastest = {
            'length distortion': min(medians[f'forward {args.angles} ({k})'][0] for k in paths),
            'NTK condition number': min(
                medians[f'forward {args.batch_size} ({k})'][0] for k in paths
            ),
        }
        table = Table(
            title=f'{arch}, {size}x{size}, float32, {timing.device_name(args.device)}',
            title_justify='left',
        )
        for column in ('', 'ms', 'spread', 'x forward', 'published s', 'x faster', 'difference'):
            table.add_column(column, justify='right' if column else 'left')
        rows = []
        for name, (median, spread) in medians.items():
            row = {'name': name, 'seconds': median, 'spread': spread}
            cells = [name, f'{median * 1e3:.0f}', f'{spread:.0%}', '', '', '', '']
            if name in fastest:
                row['forwards'] = median / fastest[name]
                cells[3] = f'{row["forwards"]:.2f}'
            if name in published:
                row |= {'published_seconds': published[name], 'difference': differences[name]}
                cells[4:] = [
                    f'{published[name]:.1f}',
                    f'{published[name] / median:.0f}',
                    f'{differences[name]:.0e}',
                ]
            rows.append(row)
            table.add_row(*cells)
        console = Console(width=max(110, Console().width))
        console.print(table)
        taus = compare_ranks(args.ranks, size, args.batch_size, args.device) if args.ranks else {}
        for name, tau in taus.items():
            console.print(
                f'{name}: Kendall tau {tau["tau"]:.4f} between float32 and float64, n = {tau["n"]}'
            )
        if args.json:
            settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}
            atomic_write_json(args.json, {'settings': settings, 'rows': rows, 'ranks': taus})


if __name__ == '__main__':
    main()
