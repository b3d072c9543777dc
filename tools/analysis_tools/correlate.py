"""Study what the complexity measures predict: sample, measure, train, correlate.

Resumable after a kill (--resume). Over two processes:
torchrun --nproc_per_node=2 tools/analysis_tools/correlate.py --launcher pytorch ...
"""

import argparse

from asvit_mm.errors import one_line_errors
from asvit_mm.runs.arguments import TRAINING_DATA_HELP, add_measuring_arguments, add_study_arguments


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    shown = '(default: %(default)s)'
    parser.add_argument('--work-dir', default='work_dirs/correlate', help=f'of the results {shown}')
    parser.add_argument(
        '--num',
        '--num-archs',  # torchrun takes --num for an abbreviation of its own options
        type=int,
        default=40,
        help=f'architectures; under torchrun it must be written --num-archs {shown}',
    )
    parser.add_argument(
        '--strata',
        type=int,
        default=4,
        help=f'parts by parameter count, equally many architectures of each {shown}',
    )
    parser.add_argument(
        '--epochs', type=int, default=8, help=f'that each architecture is trained for {shown}'
    )
    parser.add_argument(
        '--measures', nargs='+', default=['all'], help=f'names of measures, or all {shown}'
    )
    parser.add_argument(
        '--workers',
        type=int,
        default=0,
        help=f'processes that load the images of a training; 0: the one that trains {shown}',
    )
    add_study_arguments(parser, data='digits', data_help=f'to measure and {TRAINING_DATA_HELP}')
    add_measuring_arguments(parser)
    return parser.parse_args()


def main() -> None:
    """Parse, then hand over to the package."""
    args = parse_args()
    with one_line_errors():
        from asvit_mm.analysis.correlate import CorrelateSettings, run_study

        run_study(CorrelateSettings(**{**vars(args), 'measures': tuple(args.measures)}))


if __name__ == '__main__':
    main()
