"""The whole way on real data: search a seed, scale it, train it, test it, on handwritten digits.

Runs the other tools as a user would, then prints what came out and where it lies. No download: the
1,797 digits are the ones that scikit-learn ships.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from asvit_mm.engine.arguments import run_tool
from asvit_mm.errors import InputError, one_line_errors

TOOLS = Path(__file__).resolve().parents[1]


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/demo'))
    parser.add_argument(
        '--steps', type=int, default=60, help='of the search (default: %(default)s)'
    )
    parser.add_argument('--repeat', type=int, default=2, help='networks to average over')
    parser.add_argument('--min-params', default='2.5M', help='of the scaled network')
    parser.add_argument('--max-params', default='4M', help='of the scaled network')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--cfg-options', nargs='+', default=[], help='passed on to tools/train.py')
    return parser.parse_args()


def main() -> None:
    """Run the five steps and print the summary."""
    args = parse_args()
    with one_line_errors():
        seconds: dict[str, float] = {}
        search, scale, train = (args.work_dir / step for step in ('search', 'scale', 'train'))
        measuring = [
            '--data',
            'digits',
            '--repeat',
            args.repeat,
            '--seed',
            args.seed,
            '--overwrite',
        ]
        seconds['search'] = run_tool(
            'Search a seed without training',
            TOOLS / 'search.py',
            *measuring,
            *('--steps', args.steps, '--work-dir', search),
        )
        seconds['scale'] = run_tool(
            'Scale it without training',
            TOOLS / 'scale.py',
            search / 'result.json',
            *measuring,
            *('--min-params', args.min_params, '--max-params', args.max_params),
            *('--progressive', '--work-dir', scale),
        )
        result = json.loads((scale / 'result.json').read_text())
        if not result['reached']:
            raise InputError(f'no network of at least {args.min_params}: {result["stopped"]}')
        config = scale / result['series'][-1]['config']
        seconds['train'] = run_tool(
            'Train the last network of the series, tokens growing finer',
            TOOLS / 'train.py',
            config,
            *(
                '--work-dir',
                train,
                '--cfg-options',
                f'randomness.seed={args.seed}',
                *args.cfg_options,
            ),
        )
        checkpoint = (train / 'last_checkpoint').read_text().strip()
        metrics = train / 'test.json'
        seconds['test'] = run_tool(
            'Test it on the held-out digits',
            TOOLS / 'test.py',
            *(config, checkpoint, '--out', metrics, '--work-dir', train / 'test'),
        )
        print(f'\n=== What came out\n{summary(args.work_dir, config, checkpoint, seconds)}')


def summary(work_dir: Path, config: Path, checkpoint: str, seconds: dict[str, float]) -> str:
    """Names and values, one a line; draws the learning curve on the way."""
    from mmengine.config import Config

    from asvit_mm.arch import as_architecture
    from asvit_mm.cost import count_macs, count_params, schedule_share
    from asvit_mm.report.plots import plot_learning_curve
    from asvit_mm.utils.units import format_count

    train = work_dir / 'train'
    # The Runner's copy, options included; an earlier demo may have left others beside it.
    settings = Config.fromfile(train / config.name)
    backbone = settings.model.backbone
    arch, size = as_architecture(backbone.arch), backbone.img_size
    classes = settings.model.head.num_classes
    hook = next(h for h in settings.custom_hooks if 'ProgressiveTokenization' in h.type)
    phases = [(phase.end, phase.stride) for phase in hook.phases]
    saved = 1 - schedule_share(arch, phases, size, classes)
    log = max(train.glob('*/*.log'))
    scalars = log.parent / 'vis_data' / 'scalars.json'
    curve = plot_learning_curve(scalars, train / 'learning_curve.png', hook.phases)
    found: dict[str, Any] = json.loads((work_dir / 'search' / 'result.json').read_text())
    accuracy = json.loads((train / 'test.json').read_text())['accuracy/top1']
    rows = {
        'seed found': found['arch'],
        'architecture': str(arch),
        'parameters': f'{count_params(arch, classes, img_size=size):,}',
        'multiply-adds': f'{format_count(count_macs(arch, size, classes))} an image of {size}x{size}',
        'training saved': f'{saved:.1%} of the multiply-adds, phases (end, stride) {phases}',
        **{f'time to {step}': f'{taken:.0f} s' for step, taken in seconds.items()},
        'test accuracy': f'{accuracy:.2f} % top-1 on 360 held-out digits',
        'config': config,
        'checkpoint': Path(checkpoint).relative_to(Path.cwd())
        if Path(checkpoint).is_relative_to(Path.cwd())
        else checkpoint,
        'log': log,
        'learning curve': curve,
        'search trace': work_dir / 'search' / 'search.png',
        'scaling': work_dir / 'scale' / 'scaling.png',
    }
    width = max(map(len, rows))
    return '\n'.join(f'{name:<{width}}  {value}' for name, value in rows.items())


if __name__ == '__main__':
    main()
