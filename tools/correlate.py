"""Study what the complexity measures predict: sample, measure, train, correlate.

Resumable after a kill (--resume). Over two processes:
torchrun --nproc_per_node=2 tools/correlate.py --launcher pytorch ...
"""

import argparse

from asvit_mm.errors import one_line_errors


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    shown = '(default: %(default)s)'
    parser.add_argument('--work-dir', default='work_dirs/correlate', help=f'of the results {shown}')
    parser.add_argument(
        '--data',
        default='digits',
        help='to measure and to train on: digits (of scikit-learn), an image folder (train/ and val/ '
        f'with class folders) or an mmpretrain config {shown}',
    )
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
        '--img-size', type=int, help='pixels a side of the images (default: 224; 32 for digits)'
    )
    parser.add_argument(
        '--batch-size', type=int, default=16, help=f'images to measure a network on {shown}'
    )
    parser.add_argument(
        '--repeat', type=int, default=5, help=f'networks that a score is averaged over {shown}'
    )
    parser.add_argument('--seed', type=int, default=0, help=shown)
    parser.add_argument(
        '--workers',
        type=int,
        default=0,
        help=f'processes that load the images of a training; 0: the one that trains {shown}',
    )
    parser.add_argument(
        '--threads', type=int, default=1, help=f'of torch on the CPU, in each process {shown}'
    )
    parser.add_argument(
        '--device', default='auto', help='cpu, cuda, cuda:1 or auto: cuda if there is one (default)'
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch'],
        default='none',
        help=f'pytorch: started by torchrun, every process takes its share of architectures {shown}',
    )
    parser.add_argument(
        '--resume', action='store_true', help='go on with the study in the work dir'
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='replace the study in the work dir'
    )
    return parser.parse_args()


def main() -> None:
    """Parse, then hand over to the package."""
    args = parse_args()
    with one_line_errors():
        from asvit_mm.jobs.correlate import CorrelateSettings, run_study

        run_study(CorrelateSettings(**{**vars(args), 'measures': tuple(args.measures)}))


if __name__ == '__main__':
    main()
