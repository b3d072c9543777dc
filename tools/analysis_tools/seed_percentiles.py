"""How do these seeds rank among random ones, and what do repeats gain? Measures, nothing is trained.

Resumable after a kill (--resume), also with further architectures. Over two processes:
torchrun --nproc_per_node=2 tools/analysis_tools/seed_percentiles.py --launcher pytorch ...
"""

from asvit_mm.analysis.settings import SeedPercentileSettings
from asvit_mm.errors import one_line_errors
from asvit_mm.utils.command_line import parse


def parse_args() -> SeedPercentileSettings:
    """Read the command line."""
    return parse(SeedPercentileSettings, __doc__)


def main() -> None:
    """Parse, then hand over to the package."""
    with one_line_errors():
        settings = parse_args()
        from asvit_mm.analysis.seed_percentiles import run_study

        run_study(settings)


if __name__ == '__main__':
    main()
