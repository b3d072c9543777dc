"""Report what only a GPU can show, within minutes: correctness, speed, the method's time, training.

Needs no network, and writes into the folder --out only: report.json after every row, report.md with tables.
What fails is a row of the report. See docs/cuda.md. A rehearsal on a CPU: --device cpu --quick
"""

from asvit_mm.analysis.cuda_report.settings import CudaReportSettings
from asvit_mm.utils.command_line import make_tool

parse_args, main = make_tool(
    CudaReportSettings, 'asvit_mm.analysis.cuda_report.report:run_cuda_report', __doc__
)

if __name__ == '__main__':
    main()
