"""Does progressive tokenization save the time that it promises? Training steps at each token stride.

Times forward, backward and optimizer of our models at every stride of the published schedules, in turn in
one run, and says how much of the multiply-adds that a schedule saves shows on the clock.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from asvit_mm.errors import InputError, one_line_errors


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'models', nargs='*', default=['small', 'base', 'large'], help='presets or architectures'
    )
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    parser.add_argument(
        '--dtype',
        choices=['float32', 'bfloat16', 'float16'],
        default='float32',
        help='float32, or autocast (default: %(default)s)',
    )
    parser.add_argument('--batch-size', type=int, default=8)
    parser.add_argument('--size', type=int, default=224, help='pixels a side')
    parser.add_argument('--rounds', type=int, default=9, help='steps of each stride, in turn')
    parser.add_argument('--json', type=Path, help='write the figures here')
    return parser.parse_args()


def benchmark(args: argparse.Namespace, model: str) -> dict[str, Any]:
    """Seconds of a training step of the model at each stride, and what the schedules save."""
    from asvit_mm.analysis.benchmark import Contestant, Setting, median_and_spread, time_in_turn
    from asvit_mm.token_schedule import PUBLISHED, STRIDES, mean_cost, phases_of_run, read_schedule

    contestants = []
    for stride in STRIDES:
        setting = Setting(
            mode='training',
            device=args.device,
            dtype=args.dtype,
            batch=args.batch_size,
            size=(args.size, args.size),
            options={'token_stride': stride, 'img_size': args.size},
        )
        contestants.append(Contestant(model, setting))
        for _ in range(2):
            contestants[-1].call()
    taken = time_in_turn([c.call for c in contestants], args.device, args.rounds)
    steps = {
        stride: {
            'seconds': median_and_spread(seconds)[0],
            'spread': median_and_spread(seconds)[1],
            'macs': contestant.macs,
        }
        for stride, seconds, contestant in zip(STRIDES, taken, contestants, strict=True)
    }
    full = steps[STRIDES[-1]]
    percent: dict[str, dict[int, float]] = {
        what: {stride: 100 * step[what] / full[what] for stride, step in steps.items()}
        for what in ('seconds', 'macs')
    }
    schedules = {}
    for name in PUBLISHED:
        phases = phases_of_run(read_schedule(name), 300)
        time, macs = (100 - mean_cost(phases, percent[what], 300) for what in ('seconds', 'macs'))
        schedules[name] = {'time_saved': time, 'macs_saved': macs, 'seen': 100 * time / macs}
    return {'model': model, 'steps': steps, 'percent': percent, 'schedules': schedules}


def main() -> None:
    """Time and print."""
    args = parse_args()
    with one_line_errors():
        import torch
        from rich.console import Console
        from rich.table import Table

        from asvit_mm.analysis.benchmark import device_name
        from asvit_mm.utils.files import atomic_write_json

        if args.rounds < 1 or args.batch_size < 1:
            raise InputError('give at least 1 round and 1 image')
        if args.device == 'cuda' and not torch.cuda.is_available():
            raise InputError('device cuda: torch finds no CUDA device; use --device cpu')
        found = []
        for model in args.models:
            print(f'timing {model}', flush=True)
            found.append(benchmark(args, model))
        title = (
            f'Training steps, {args.batch_size} images of {args.size} x {args.size}, {args.dtype}; '
            f'{device_name(args.device)}'
        )
        steps = Table(title=title, title_justify='left')
        for column in ('model', 'stride', 's a step', 'spread', 'time', 'multiply-adds'):
            steps.add_column(column, justify='left' if column == 'model' else 'right')
        saved = Table(title='What a schedule saves', title_justify='left')
        for column in ('model', 'schedule', 'multiply-adds', 'time', 'of it seen on the clock'):
            saved.add_column(column, justify='left' if column == 'model' else 'right')
        for one in found:
            for stride, step in one['steps'].items():
                shares = [f'{one["percent"][what][stride]:.1f} %' for what in ('seconds', 'macs')]
                spread = f'{100 * step["spread"]:.0f} %'
                steps.add_row(one['model'], str(stride), f'{step["seconds"]:.3f}', spread, *shares)
            for name, schedule in one['schedules'].items():
                figures = [f'{schedule[w]:.1f} %' for w in ('macs_saved', 'time_saved', 'seen')]
                saved.add_row(one['model'], name, *figures)
        console = Console(highlight=False, width=100)
        console.print(steps)
        console.print(saved)
        if args.json is not None:
            atomic_write_json(args.json, json.loads(json.dumps({'title': title, 'models': found})))
            print(f'written: {args.json}')


if __name__ == '__main__':
    main()
