"""Measure architectures without training them: complexity measures, proxies and costs, as a table."""

from asvit_mm.errors import one_line_errors
from asvit_mm.runs.settings import MeasureSettings
from asvit_mm.utils.command_line import parse


def parse_args() -> MeasureSettings:
    """Read the command line."""
    return parse(MeasureSettings, __doc__)


def main() -> None:
    """Parse, then hand over to the package."""
    with one_line_errors():
        settings = parse_args()
        from asvit_mm.runs.measure import print_measures, run_measuring

        if settings.list:
            print_measures()
        else:
            run_measuring(settings)


if __name__ == '__main__':
    main()
