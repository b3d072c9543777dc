"""Search a seed architecture without training (REINFORCE on L^E and the NTK condition number).

Resumable after a kill (--resume).
"""

import argparse
from pathlib import Path

from asvit_mm.errors import one_line_errors
from asvit_mm.runs.arguments import add_run_arguments


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--work-dir',
        default='work_dirs/search',
        help='folder of the results (default: %(default)s)',
    )
    parser.add_argument(
        '--steps', type=int, default=500, help='architectures to measure (default: %(default)s)'
    )
    parser.add_argument(
        '--method',
        default='reinforce',
        choices=('reinforce', 'evolution', 'random'),
        help="the paper's, or one of two to compare it with (default: %(default)s)",
    )
    parser.add_argument(
        '--max-params',
        metavar='N',
        help='no network has more parameters, such as 3M, with the classes of the data '
        '(default: no limit)',
    )
    add_run_arguments(parser)
    return parser.parse_args()


def main() -> None:
    """Parse, then hand over to the package."""
    args = parse_args()
    with one_line_errors():
        from asvit_mm.runs.search import SearchSettings, run_search

        run_search(SearchSettings(**vars(args)), tools=Path(__file__).parent)


if __name__ == '__main__':
    main()
