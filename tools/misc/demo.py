"""The whole method on real data: search a seed, scale it, train and test it, on handwritten digits.

Runs the other tools as a user would, then prints results and where they are. Nothing is downloaded: the
1,797 digits are the ones that scikit-learn ships.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asvit_mm.engine.arguments import run_tool
from asvit_mm.errors import InputError
from asvit_mm.utils.command_line import make_tool, option
from asvit_mm.utils.console import print_summary

TOOLS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class DemoSettings:
    """How long the demo searches, and how large the network becomes."""

    work_dir: Path = Path('work_dirs/demo')
    """folder for everything that is written"""
    steps: int = 60
    """of the search"""
    repeat: int = 2
    """networks to average over"""
    min_params: str = '2.5M'
    """of the scaled network"""
    max_params: str = '4M'
    """of the scaled network"""
    seed: int = 0
    """of all random numbers"""
    cfg_options: tuple[str, ...] = option(default=(), metavar='KEY=VALUE')
    """passed on to tools/train.py"""


def run(args: DemoSettings) -> None:
    """Run the four tools and print the summary."""
    search, scale, train = (args.work_dir / step for step in ('search', 'scale', 'train'))
    measuring = ['--data', 'digits', '--repeat', args.repeat, '--seed', args.seed, '--overwrite']
    seconds: dict[str, float] = {}
    seconds['search'] = run_tool(
        'Search a seed without training',
        TOOLS / 'search.py',
        *(*measuring, '--steps', args.steps, '--work-dir', search),
    )
    seconds['scale'] = run_tool(
        'Scale it without training',
        TOOLS / 'scale.py',
        *(search / 'result.json', *measuring, '--progressive', '--work-dir', scale),
        *('--min-params', args.min_params, '--max-params', args.max_params),
    )
    result = json.loads((scale / 'result.json').read_text())
    if not result['reached']:
        raise InputError(f'no network of at least {args.min_params}: {result["stopped"]}')
    config = scale / result['series'][-1]['config']
    options = ['--cfg-options', f'randomness.seed={args.seed}', *args.cfg_options]
    seconds['train'] = run_tool(
        'Train the last network of the series, with finer and finer tokens',
        TOOLS / 'train.py',
        *(config, '--work-dir', train, *options),
    )
    checkpoint = (train / 'last_checkpoint').read_text().strip()
    seconds['test'] = run_tool(
        'Test it on the held-out digits',
        TOOLS / 'test.py',
        *(config, checkpoint, '--out', train / 'test.json', '--work-dir', train / 'test'),
    )
    print('\n=== Results')
    print_summary(summary(args.work_dir, config, checkpoint, seconds))


def summary(
    work_dir: Path, config: Path, checkpoint: str, seconds: dict[str, float]
) -> dict[str, str]:
    """Results and paths by name; also draws the learning curve."""
    from mmengine.config import Config

    from asvit_mm.arch import as_architecture
    from asvit_mm.cost import count_macs, count_params, schedule_share
    from asvit_mm.engine.config import is_token_hook
    from asvit_mm.report.plots import plot_learning_curve
    from asvit_mm.utils.units import format_count

    train = work_dir / 'train'
    # The Runner's copy of the config, options included; an earlier demo may have left others beside it.
    settings = Config.fromfile(train / config.name)
    arch, size = as_architecture(settings.model.backbone.arch), settings.model.backbone.img_size
    classes = settings.model.head.num_classes
    hook = next(filter(is_token_hook, settings.custom_hooks))
    phases = [(phase.end, phase.stride) for phase in hook.phases]
    saved = 1 - schedule_share(arch, phases, size, classes)
    log = max(train.glob('*/*.log'))
    scalars = log.parent / 'vis_data' / 'scalars.json'
    curve = train / 'learning_curve.png'
    plot_learning_curve(scalars, curve, hook.phases)
    found: dict[str, Any] = json.loads((work_dir / 'search' / 'result.json').read_text())
    accuracy = json.loads((train / 'test.json').read_text())['accuracy/top1']
    here = Path(checkpoint).is_relative_to(Path.cwd())
    rows = {
        'seed found': found['arch'],
        'architecture': str(arch),
        'parameters': f'{count_params(arch, classes, img_size=size):,}',
        'multiply-adds': f'{format_count(count_macs(arch, size, classes))} per image of {size}x{size}',
        'training saved': f'{saved:.1%} of the multiply-adds, phases (end, stride) {phases}',
        **{f'time to {step}': f'{taken:.0f} s' for step, taken in seconds.items()},
        'test accuracy': f'{accuracy:.2f} % top-1 on 360 held-out digits',
        'config': config,
        'checkpoint': Path(checkpoint).relative_to(Path.cwd()) if here else checkpoint,
        'log': log,
        'learning curve': curve,
        'search trace': work_dir / 'search' / 'search.png',
        'scaling': work_dir / 'scale' / 'scaling.png',
    }
    return {name: str(value) for name, value in rows.items()}


parse_args, main = make_tool(DemoSettings, run, __doc__)

if __name__ == '__main__':
    main()
