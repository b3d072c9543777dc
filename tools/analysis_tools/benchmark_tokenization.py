"""Does progressive tokenization save the time that it promises? Training steps at each token stride.

Times forward, backward and optimizer of our models at every stride of the published schedules, in turn in
one run, and says how much of the multiply-adds that a schedule saves shows on the clock.
"""

from asvit_mm.analysis.settings import TokenizationSettings
from asvit_mm.errors import one_line_errors
from asvit_mm.utils.command_line import parse


def parse_args() -> TokenizationSettings:
    """Read the command line."""
    return parse(TokenizationSettings, __doc__)


def main() -> None:
    """Parse, then hand over to the package."""
    with one_line_errors():
        settings = parse_args()
        from asvit_mm.analysis.benchmark_tokenization import run_tokenization

        run_tokenization(settings)


if __name__ == '__main__':
    main()
