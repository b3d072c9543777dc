"""Command-line arguments that the studies of the search share; imports nothing heavy."""

import argparse

from .arguments import DATA_HELP


def add_study_arguments(parser: argparse.ArgumentParser, *, data: str, repeat: int) -> None:
    """Add how networks are measured, and what a study has that can be resumed and shared out.

    Args:
        data: the default.
        repeat: the default.
    """
    shown = '(default: %(default)s)'
    parser.add_argument('--data', default=data, help=f'{DATA_HELP} {shown}')
    parser.add_argument(
        '--img-size', type=int, help='pixels a side of the images (default: 224; 32 for digits)'
    )
    parser.add_argument('--batch-size', type=int, default=16, help=f'images of a network {shown}')
    parser.add_argument(
        '--repeat', type=int, default=repeat, help=f'networks to average over {shown}'
    )
    parser.add_argument('--seed', type=int, default=0, help=shown)
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
        help=f'pytorch: started by torchrun, every process takes its share {shown}',
    )
    parser.add_argument(
        '--resume', action='store_true', help='go on with the study in the work dir'
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='replace the study in the work dir'
    )
