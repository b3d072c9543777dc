"""Measure architectures without training them: complexity measures, proxies and costs, as a table."""

from asvit_mm.runs.settings import MeasureSettings
from asvit_mm.utils.command_line import make_tool

parse_args, main = make_tool(MeasureSettings, 'asvit_mm.runs.measure:run_measuring', __doc__)

if __name__ == '__main__':
    main()
