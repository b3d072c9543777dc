"""Scale a seed architecture without training into a series of networks, each with its config.

Resumable after a kill (--resume).
"""

import argparse
from pathlib import Path

from asvit_mm.errors import one_line_errors
from asvit_mm.jobs.arguments import add_measuring_arguments


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
        default='80M',
        help='stop at the first network with this many parameters (default: %(default)s)',
    )
    parser.add_argument(
        '--max-params', default='110M', help='no network has more (default: %(default)s)'
    )
    add_measuring_arguments(parser)
    return parser.parse_args()


def main() -> None:
    """Parse, then hand over to the package."""
    args = parse_args()
    with one_line_errors():
        from asvit_mm.jobs.scale import ScaleSettings, run_scaling

        run_scaling(ScaleSettings(**vars(args)), tools=Path(__file__).parent)


if __name__ == '__main__':
    main()
