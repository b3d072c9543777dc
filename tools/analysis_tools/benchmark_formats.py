"""Time classifiers of the zoo in each export format beside eager torch: size, difference, time and top-1."""

from asvit_mm.analysis.settings import FormatSettings
from asvit_mm.utils.command_line import make_tool

parse_args, main = make_tool(
    FormatSettings, 'asvit_mm.analysis.benchmark_formats:run_formats', __doc__
)

if __name__ == '__main__':
    main()
