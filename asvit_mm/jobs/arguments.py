"""Command-line arguments that tools/search.py and tools/scale.py share; imports nothing heavy."""

import argparse

DATA_HELP = (
    'images for the NTK condition number and what the configs train on: digits (of scikit-learn), '
    'noise, an image folder (class folders, or train/ and val/ with them) or an mmpretrain config'
)


def add_measuring_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what both runs have; the defaults are the paper's."""
    parser.add_argument('--data', default='noise', help=f'{DATA_HELP} (default: %(default)s)')
    parser.add_argument(
        '--img-size', type=int, help='pixels a side of the images (default: 224; 32 for digits)'
    )
    parser.add_argument(
        '--batch-size', type=int, default=16, help='images of a network (default: %(default)s)'
    )
    parser.add_argument(
        '--repeat', type=int, default=5, help='networks to average over (default: %(default)s)'
    )
    parser.add_argument('--seed', type=int, default=0, help='default: %(default)s')
    parser.add_argument(
        '--device', default='auto', help='cpu, cuda, cuda:1 or auto: cuda if there is one (default)'
    )
    parser.add_argument(
        '--progressive',
        action='store_true',
        help='write configs that train with progressive tokenization',
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='replace the results of an earlier run'
    )


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what a run has that can be limited, resumed and shared out."""
    parser.add_argument(
        '--max-flops',
        metavar='N',
        help='no network has more multiply-adds an image, such as 5G or 400M (default: no limit)',
    )
    parser.add_argument(
        '--max-latency',
        type=float,
        metavar='MS',
        help='no network takes more milliseconds for an image, timed on the device (default: no limit)',
    )
    parser.add_argument(
        '--remeasure',
        action='store_true',
        help='measure an architecture that comes again anew, with fresh weights, as the published '
        'code does (default: recall it)',
    )
    parser.add_argument(
        '--launcher',
        default='none',
        choices=('none', 'pytorch'),
        help='pytorch: under torchrun, whose processes share the measurements (default: %(default)s)',
    )
    parser.add_argument(
        '--resume',
        action='store_true',
        help='go on with the run in the work dir, which may have been killed at any moment',
    )
