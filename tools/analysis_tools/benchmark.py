"""Time image models side by side: images a second, and time for each multiply-add.

Several modes, types and sizes make one table each; --compile no yes times every model eager and compiled in
turn.
"""

from asvit_mm.analysis.settings import BenchmarkSettings
from asvit_mm.errors import one_line_errors
from asvit_mm.utils.command_line import parse


def parse_args() -> BenchmarkSettings:
    """Read the command line."""
    return parse(BenchmarkSettings, __doc__)


def main() -> None:
    """Parse, then hand over to the package."""
    with one_line_errors():
        settings = parse_args()
        from asvit_mm.analysis.benchmark import run_benchmark

        run_benchmark(settings)


if __name__ == '__main__':
    main()
