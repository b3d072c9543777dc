"""Train the table of networks that measures and searches are judged by (docs/studies/bench).

Resumable after a kill: trainings that have a record are not done again.
"""

from asvit_mm.analysis.settings import BenchSettings
from asvit_mm.errors import one_line_errors
from asvit_mm.utils.command_line import parse


def parse_args() -> BenchSettings:
    """Read the command line."""
    return parse(BenchSettings, __doc__)


def main() -> None:
    """Parse, then hand over to the package."""
    with one_line_errors():
        settings = parse_args()
        from asvit_mm.analysis.bench_training import run_bench

        run_bench(settings)


if __name__ == '__main__':
    main()
