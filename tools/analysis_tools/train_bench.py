"""Train the table of networks that measures and searches are judged by (docs/studies/bench).

Resumable after a kill: trainings that have a record are not done again.
"""

from asvit_mm.analysis.settings import BenchSettings
from asvit_mm.utils.command_line import make_tool

parse_args, main = make_tool(BenchSettings, 'asvit_mm.analysis.bench_training:run_bench', __doc__)

if __name__ == '__main__':
    main()
