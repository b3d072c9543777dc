"""Scale a seed architecture without training into a series of networks, each with its config.

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
        'arch',
        help="architecture ('8,2,3|4,1,2|4,1,4|4,1,6|32'), preset (seed, small, ...) or the "
        'result.json of a search; its kernels, splits, expansions and heads are scaled',
    )
    parser.add_argument(
        '--work-dir', default='work_dirs/scale', help='folder of the results (default: %(default)s)'
    )
    parser.add_argument(
        '--min-params',
        metavar='N',
        help='stop at the first network with this many parameters (default: 80M)',
    )
    parser.add_argument(
        '--max-params', metavar='N', help='no network has more parameters (default: 110M)'
    )
    parser.add_argument(
        '--targets',
        nargs='+',
        default=(),
        metavar='N',
        help='instead of the two: scale up to each of these numbers of parameters, such as 29M 52.6M '
        '88.1M, and give the best network of each',
    )
    add_run_arguments(parser)
    return parser.parse_args()


def main() -> None:
    """Parse, then hand over to the package."""
    args = parse_args()
    with one_line_errors():
        from asvit_mm.runs.scale import ScaleSettings, run_scaling

        run_scaling(ScaleSettings(**vars(args)), tools=Path(__file__).parent)


if __name__ == '__main__':
    main()
