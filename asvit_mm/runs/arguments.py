"""Command-line arguments that several tools share; imports nothing heavy."""

import argparse

DATA_HELP = (
    'images for the NTK condition number and what the configs train on: digits (of scikit-learn), '
    'noise, an image folder (class folders, or train/ and val/ with them) or an mmpretrain config'
)
STUDY_DATA_HELP = (
    'images for the NTK condition number: digits (of scikit-learn), noise, an image folder (class '
    'folders, or train/ and val/ with them) or an mmpretrain config'
)
TRAINING_DATA_HELP = (
    'to train on: digits (of scikit-learn), an image folder (train/ and val/ with class folders) or an '
    'mmpretrain config'
)
SHOWN = '(default: %(default)s)'


def add_job_arguments(
    parser: argparse.ArgumentParser, *, data: str = 'noise', data_help: str = DATA_HELP
) -> None:
    """Add what a job works on, over how many processes, and what becomes of earlier results.

    Args:
        data: the default.
        data_help: what it is used for.
    """
    parser.add_argument('--data', default=data, help=f'{data_help} {SHOWN}')
    parser.add_argument(
        '--img-size',
        type=int,
        help="pixels a side of the images (default: 32 for digits, a config's own, else 224)",
    )
    parser.add_argument('--seed', type=int, default=0, help=SHOWN)
    parser.add_argument(
        '--device', default='auto', help='cpu, cuda, cuda:1 or auto: cuda if there is one (default)'
    )
    parser.add_argument(
        '--launcher',
        default='none',
        choices=('none', 'pytorch'),
        help=f'pytorch: under torchrun, whose processes share the work {SHOWN}',
    )
    parser.add_argument(
        '--resume',
        action='store_true',
        help='go on with what is in the work dir, which may have been killed at any moment',
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='replace the earlier results in the work dir'
    )


def add_measuring_arguments(parser: argparse.ArgumentParser, *, repeat: int = 5) -> None:
    """Add how networks are measured; ``repeat`` is the default."""
    parser.add_argument('--batch-size', type=int, default=16, help=f'images of a network {SHOWN}')
    parser.add_argument(
        '--repeat', type=int, default=repeat, help=f'networks to average over {SHOWN}'
    )


def add_study_arguments(
    parser: argparse.ArgumentParser, *, data: str, data_help: str = STUDY_DATA_HELP
) -> None:
    """Add what the studies share; see :func:`add_job_arguments`."""
    add_job_arguments(parser, data=data, data_help=data_help)
    parser.add_argument(
        '--threads', type=int, default=1, help=f'of torch on the CPU, in each process {SHOWN}'
    )
