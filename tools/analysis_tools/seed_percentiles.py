"""Where do these seeds stand among random ones, and what do repeats buy? Measures, nothing is trained.

Resumable after a kill (--resume), also with further architectures. Over two processes:
torchrun --nproc_per_node=2 tools/analysis_tools/seed_percentiles.py --launcher pytorch ...
"""

import argparse

from asvit_mm.errors import one_line_errors
from asvit_mm.runs.arguments import add_measuring_arguments, add_study_arguments


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'archs',
        nargs='*',
        default=['seed'],
        metavar='[NAME=]ARCH',
        help='seeds to place: preset, architecture string or result.json of a search, with a name for '
        'the report or without (default: seed, the published one)',
    )
    parser.add_argument(
        '--work-dir',
        default='work_dirs/standing',
        help='folder of the results (default: %(default)s)',
    )
    parser.add_argument(
        '--num',
        '--num-archs',  # torchrun takes --num for an abbreviation of its own options
        type=int,
        default=200,
        help='random seeds; under torchrun it must be written --num-archs (default: %(default)s)',
    )
    add_study_arguments(parser, data='noise')
    add_measuring_arguments(parser, repeat=5)
    return parser.parse_args()


def main() -> None:
    """Parse, then hand over to the package."""
    args = parse_args()
    with one_line_errors():
        from asvit_mm.analysis.seed_percentiles import StandingSettings, run_standing

        run_standing(StandingSettings(**{**vars(args), 'archs': tuple(args.archs)}))


if __name__ == '__main__':
    main()
