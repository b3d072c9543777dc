"""Time image models side by side: images a second, and time for each multiply-add.

Names: a preset of ours (small) or an architecture string, with packed: before it for the model that
optimize_for_inference makes of it; mmpretrain:CONFIG_NAME, mmdet:CONFIG_NAME (its backbone) or
timm:MODEL_NAME. Several modes, types, sizes and --compile values make one table each.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asvit_mm.errors import InputError, one_line_errors

PEERS = [
    'small',
    'base',
    'large',
    'mmpretrain:swin-tiny_16xb64_in1k',
    'mmpretrain:swin-small_16xb64_in1k',
    'mmpretrain:swin-base_16xb64_in1k',
    'mmpretrain:convnext-tiny_32xb128_in1k',
    'mmpretrain:convnext-small_32xb128_in1k',
    'mmpretrain:convnext-base_32xb128_in1k',
]


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'models',
        nargs='*',
        default=PEERS,
        help='default: our family, Swin and ConvNeXt of its sizes',
    )
    parser.add_argument(
        '--mode', nargs='+', choices=['inference', 'training'], default=['inference']
    )
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    parser.add_argument(
        '--dtype',
        nargs='+',
        choices=['float32', 'bfloat16', 'float16'],
        default=['float32'],
        help='float32, or autocast',
    )
    parser.add_argument('--compile', nargs='+', choices=['no', 'yes'], default=['no'])
    parser.add_argument('--batch-size', type=int, default=8)
    parser.add_argument(
        '--size', nargs='+', default=['224'], help='pixels: 384, or 224x320 (height x width)'
    )
    parser.add_argument('--rounds', type=int, default=9, help='calls of each model, in turn')
    parser.add_argument('--memory', action='store_true', help='peak memory too')
    parser.add_argument('--threads', type=int, help="CPU threads (default: torch's)")
    parser.add_argument(
        '--options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='settings of our backbones: with_cp=True window_size=[32,32,16,8]',
    )
    parser.add_argument('--json', type=Path, help='write the figures here')
    parser.add_argument('--plot', type=Path, help='draw ms per billion multiply-adds here (PNG)')
    parser.add_argument('--peak-of', nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def parse_size(text: str) -> tuple[int, int]:
    """'384' or '224x320' as (height, width).

    Raises:
        InputError: it is neither.
    """
    parts = text.lower().split('x')
    if len(parts) > 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise InputError(f'--size {text!r} is not pixels: write 224 or 224x320')
    return int(parts[0]), int(parts[-1])


def measure_cpu_peak(name: str, setting: Any) -> int:
    """Peak memory of a model in a process of its own, which has not held anything else before."""
    from dataclasses import asdict

    from asvit_mm.analysis.benchmark import RETURN_MEMORY

    command = [sys.executable, __file__, '--peak-of', name, json.dumps(asdict(setting))]
    environment = {**os.environ, **RETURN_MEMORY}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        why = done.stderr.strip().splitlines()[-1:] or [f'ended with status {done.returncode}']
        raise InputError(f'peak memory of {name}: {why[0]}')
    return int(done.stdout.split()[-1])


def print_table(timings: Sequence[Any]) -> None:
    """One table a setting."""
    from rich.console import Console
    from rich.table import Table

    from asvit_mm.utils.units import format_count

    setting = timings[0].setting
    floor = f'matrix product {timings[0].floor * 1e12:.3g} ms/GMAC'
    table = Table(title=f'{setting}; {floor}', title_justify='left')
    for column in ('model', 'params', 'GMACs', 'ms', 'spread', 'images/s', 'ms/GMAC', 'of matmul'):
        table.add_column(column, justify='left' if column == 'model' else 'right')
    if any(timing.memory is not None for timing in timings):
        table.add_column('MiB/image', justify='right')
    for timing in timings:
        row = [
            timing.name,
            format_count(timing.params),
            f'{timing.macs / 1e9:.2f}',
            f'{timing.seconds * 1e3:.1f}',
            f'{timing.spread:.0%}',
            f'{timing.images_per_second:.1f}',
            f'{timing.ms_per_gmac:.3g}',
            f'{timing.share_of_matmul:.0%}',
        ]
        if timing.memory is not None:
            row.append(f'{timing.memory / setting.batch / 2**20:.1f}')
        table.add_row(*row)
    Console(width=max(100, Console().width)).print(table)


def draw(tables: Sequence[Sequence[Any]], path: Path) -> None:
    """Bars of ms per billion multiply-adds, one panel a setting, the matrix product as a line."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    rows = max(len(timings) for timings in tables)
    figure, axes = plt.subplots(
        len(tables),
        1,
        figsize=(9, len(tables) * (1 + 0.32 * rows)),
        squeeze=False,
        layout='constrained',
    )
    for axis, timings in zip(axes[:, 0], tables, strict=True):
        setting = timings[0].setting
        passes = 3 if setting.mode == 'training' else 1
        ours = [timing.name.split(':')[0] in ('packed', timing.name) for timing in timings]
        bars = axis.barh(
            [timing.name for timing in timings],
            [timing.ms_per_gmac for timing in timings],
            color=['#2a78b8' if own else '#b9c2cb' for own in ours],
        )
        axis.bar_label(bars, fmt='%.3g', padding=3, fontsize=8)
        axis.axvline(passes * timings[0].floor * 1e12, color='#c0392b', lw=1, ls='--')
        axis.invert_yaxis()
        axis.set_title(f'{setting} (dashed: matrix product)', fontsize=9, loc='left')
        axis.set_xlabel('ms per billion multiply-adds, less is better', fontsize=8)
        axis.tick_params(labelsize=8)
        axis.spines[['top', 'right']].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    """Run every setting, print its table, write JSON and picture."""
    args = parse_args()
    with one_line_errors():
        from dataclasses import replace

        import torch

        from asvit_mm.analysis import benchmark
        from asvit_mm.engine.runner import parse_options
        from asvit_mm.utils.files import atomic_write_json

        if args.threads:
            torch.set_num_threads(args.threads)
        if args.peak_of:
            name, fields = args.peak_of
            setting = benchmark.Setting(**json.loads(fields))
            print(benchmark.cpu_peak(name, replace(setting, size=tuple(setting.size))))
            return
        for name, value in (('--batch-size', args.batch_size), ('--rounds', args.rounds)):
            if value < 1:
                raise InputError(f'{name} {value}: give at least 1')
        options = parse_options(args.options)
        settings = [
            benchmark.Setting(
                mode, args.device, dtype, compiled == 'yes', args.batch_size, size, options
            )
            for mode, dtype, compiled, size in itertools.product(
                args.mode, args.dtype, args.compile, map(parse_size, args.size)
            )
        ]
        device = benchmark.device_name(args.device)
        print(f'{device}; torch {torch.__version__}', flush=True)
        tables = []
        for setting in settings:
            timings = benchmark.run(
                args.models,
                setting,
                rounds=args.rounds,
                memory=args.memory,
                report=lambda text: print(text, file=sys.stderr, flush=True),
            )
            if args.memory and setting.device == 'cpu':
                timings = [replace(t, memory=measure_cpu_peak(t.name, setting)) for t in timings]
            print_table(timings)
            tables.append(timings)
        if args.json:
            results = [timing.to_dict() for timings in tables for timing in timings]
            atomic_write_json(
                args.json, {'device': device, 'torch': str(torch.__version__), 'timings': results}
            )
        if args.plot:
            draw(tables, args.plot)


if __name__ == '__main__':
    main()
