"""Compare schedules of progressive tokenization: accuracy, multiply-adds and time, from several seeds.

Trains one architecture without a schedule and with each, on the same recipe. Resumable after a kill
(--resume). Over two processes:
torchrun --nproc_per_node=2 tools/analysis_tools/compare_schedules.py --launcher pytorch ...
"""

import argparse

from asvit_mm.engine.arguments import CFG_OPTIONS_HELP
from asvit_mm.errors import one_line_errors
from asvit_mm.runs.arguments import TRAINING_DATA_HELP, add_study_arguments


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    shown = '(default: %(default)s)'
    parser.add_argument('arch', nargs='?', default='seed', help=f'preset or architecture {shown}')
    parser.add_argument(
        '--work-dir', default='work_dirs/schedules', help=f'folder of the results {shown}'
    )
    parser.add_argument(
        '--schedules',
        nargs='+',
        default=['40-70', '80-140', '120-210'],
        help='published ones by name, or stride@end,... (epochs or shares of the run), such as '
        '16@0.25,8@0.5,4@1.0, or with a dilation, 16/1@0.25,8@0.5,4@1.0; beside training without '
        'one (default: the published ones)',
    )
    parser.add_argument(
        '--seeds', type=int, default=3, help=f'trainings with each, from --seed on {shown}'
    )
    parser.add_argument('--epochs', type=int, help="of each (default: those of the data's recipe)")
    parser.add_argument(
        '--workers',
        type=int,
        default=0,
        help=f'processes that load the images of a training; 0: the one that trains {shown}',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        default=[],
        metavar='KEY=VALUE',
        help=f'for every training: {CFG_OPTIONS_HELP}',
    )
    add_study_arguments(parser, data='digits', data_help=TRAINING_DATA_HELP)
    return parser.parse_args()


def main() -> None:
    """Parse, then hand over to the package."""
    args = parse_args()
    with one_line_errors():
        from asvit_mm.analysis.compare_schedules import SchedulesSettings, run_schedules

        lists = {name: tuple(getattr(args, name)) for name in ('schedules', 'cfg_options')}
        run_schedules(SchedulesSettings(**{**vars(args), **lists}))


if __name__ == '__main__':
    main()
