"""Judge the measures by accuracies that others trained: a benchmark table, measured without training.

Resumable after a kill, and with more networks (--resume). Over two processes:
torchrun --nproc_per_node=2 tools/analysis_tools/referee.py TABLE --launcher pytorch ...
"""

from asvit_mm.analysis.settings import RefereeSettings
from asvit_mm.errors import one_line_errors
from asvit_mm.utils.command_line import parse


def parse_args() -> RefereeSettings:
    """Read the command line."""
    return parse(RefereeSettings, __doc__)


def main() -> None:
    """Parse, then hand over to the package."""
    with one_line_errors():
        settings = parse_args()
        from asvit_mm.analysis.referee.study import run_study

        run_study(settings)


if __name__ == '__main__':
    main()
