"""What progressive tokenization saves: each phase's tokens, share of the run and cost of a step.

Counts, trains nothing: the phases of the config, and the three published schedules scaled to its run.
"""

from asvit_mm.analysis.settings import CostSettings
from asvit_mm.errors import one_line_errors
from asvit_mm.utils.command_line import parse


def parse_args() -> CostSettings:
    """Read the command line."""
    return parse(CostSettings, __doc__)


def main() -> None:
    """Parse, then hand over to the package."""
    with one_line_errors():
        settings = parse_args()
        from asvit_mm.analysis.schedule_cost import run_costs

        run_costs(settings)


if __name__ == '__main__':
    main()
