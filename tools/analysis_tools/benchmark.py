"""Time image models side by side: images a second, and time for each multiply-add.

Several modes, types and sizes make one table each; --compile no yes times every model eager and compiled in
turn.
"""

from asvit_mm.analysis.settings import BenchmarkSettings
from asvit_mm.utils.command_line import make_tool

parse_args, main = make_tool(
    BenchmarkSettings, 'asvit_mm.analysis.benchmark:run_benchmark', __doc__
)

if __name__ == '__main__':
    main()
