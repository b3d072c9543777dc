"""Report what only a GPU can show, within minutes: correctness, speed, the method's time, training.

Needs no network, and writes into the folder --out only: report.json after every row, report.md with tables.
What fails is a row of the report. See docs/cuda.md. A rehearsal on a CPU: --device cpu --quick
"""

from asvit_mm.analysis.cuda_report.settings import CudaReportSettings
from asvit_mm.errors import one_line_errors
from asvit_mm.utils.command_line import parse


def parse_args() -> CudaReportSettings:
    """Read the command line."""
    return parse(CudaReportSettings, __doc__)


def main() -> None:
    """Parse, then hand over to the package."""
    with one_line_errors():
        settings = parse_args()
        from asvit_mm.analysis.cuda_report.report import run_cuda_report

        run_cuda_report(settings)


if __name__ == '__main__':
    main()
