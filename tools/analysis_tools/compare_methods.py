"""Compare the search methods: each from several seeds, scored by where it stands among random seeds.

Resumable after a kill (--resume). Over two processes:
torchrun --nproc_per_node=2 tools/analysis_tools/compare_methods.py --launcher pytorch ...
"""

import argparse
from pathlib import Path

from asvit_mm.errors import one_line_errors
from asvit_mm.runs.arguments import add_measuring_arguments, add_study_arguments


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    shown = '(default: %(default)s)'
    parser.add_argument(
        '--work-dir', default='work_dirs/compare', help=f'folder of the results {shown}'
    )
    parser.add_argument(
        '--seeds', type=int, default=5, help=f'searches of each method, from --seed on {shown}'
    )
    parser.add_argument('--steps', type=int, default=500, help=f'of each search {shown}')
    parser.add_argument(
        '--reference',
        type=int,
        default=200,
        help=f'random seeds that scores are percentiles among {shown}',
    )
    add_study_arguments(parser, data='digits')
    add_measuring_arguments(parser, repeat=1)
    return parser.parse_args()


def main() -> None:
    """Parse, then hand over to the package."""
    args = parse_args()
    with one_line_errors():
        from asvit_mm.analysis.compare_methods import CompareSettings, run_comparison

        run_comparison(CompareSettings(**vars(args)), tools=Path(__file__).parents[1])


if __name__ == '__main__':
    main()
