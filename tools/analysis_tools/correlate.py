"""Study what the complexity measures predict: sample, measure, train, correlate.

Resumable after a kill (--resume). Over two processes:
torchrun --nproc_per_node=2 tools/analysis_tools/correlate.py --launcher pytorch ...
"""

from asvit_mm.analysis.settings import CorrelateSettings
from asvit_mm.errors import one_line_errors
from asvit_mm.utils.command_line import parse


def parse_args() -> CorrelateSettings:
    """Read the command line."""
    return parse(CorrelateSettings, __doc__)


def main() -> None:
    """Parse, then hand over to the package."""
    with one_line_errors():
        settings = parse_args()
        from asvit_mm.analysis.correlate import run_study

        run_study(settings)


if __name__ == '__main__':
    main()
