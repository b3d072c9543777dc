"""Time classifiers of the zoo in each export format beside eager torch: size, difference, time and top-1."""

from asvit_mm.analysis.settings import FormatSettings
from asvit_mm.errors import one_line_errors
from asvit_mm.utils.command_line import parse


def parse_args() -> FormatSettings:
    """Read the command line."""
    return parse(FormatSettings, __doc__)


def main() -> None:
    """Parse, then hand over to the package."""
    with one_line_errors():
        settings = parse_args()
        from asvit_mm.analysis.benchmark_formats import run_formats

        run_formats(settings)


if __name__ == '__main__':
    main()
