"""What progressive tokenization saves: each phase's tokens, share of the run and cost of a step.

Counts, trains nothing: the phases of the config, and the three published schedules scaled to its run.
"""

import argparse

from asvit_mm.engine.arguments import CFG_OPTIONS_HELP
from asvit_mm.errors import one_line_errors


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='path of a training config')
    parser.add_argument('--json', metavar='FILE', help='write the figures here')
    parser.add_argument(
        '--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE', help=CFG_OPTIONS_HELP
    )
    return parser.parse_args()


def main() -> None:
    """Parse, then hand over to the package."""
    args = parse_args()
    with one_line_errors():
        from asvit_mm.analysis.schedule_cost import run_costs
        from asvit_mm.engine.runner import parse_options

        run_costs(args.config, parse_options(args.cfg_options), args.json)


if __name__ == '__main__':
    main()
