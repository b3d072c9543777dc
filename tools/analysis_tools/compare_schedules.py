"""Compare schedules of progressive tokenization: accuracy, multiply-adds and time, from several seeds.

Trains one architecture without a schedule and with each, on the same recipe. Resumable after a kill
(--resume). Over two processes:
torchrun --nproc_per_node=2 tools/analysis_tools/compare_schedules.py --launcher pytorch ...
"""

from asvit_mm.analysis.settings import SchedulesSettings
from asvit_mm.errors import one_line_errors
from asvit_mm.utils.command_line import parse


def parse_args() -> SchedulesSettings:
    """Read the command line."""
    return parse(SchedulesSettings, __doc__)


def main() -> None:
    """Parse, then hand over to the package."""
    with one_line_errors():
        settings = parse_args()
        from asvit_mm.analysis.compare_schedules import run_schedules

        run_schedules(settings)


if __name__ == '__main__':
    main()
