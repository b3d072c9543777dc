"""Judge the measures by accuracies that others trained: a benchmark table, measured without training.

Resumable after a kill, and with more networks (--resume). Over two processes:
torchrun --nproc_per_node=2 tools/analysis_tools/referee.py TABLE --launcher pytorch ...
"""

from asvit_mm.analysis.settings import RefereeSettings
from asvit_mm.utils.command_line import make_tool

parse_args, main = make_tool(RefereeSettings, 'asvit_mm.analysis.referee.study:run_study', __doc__)

if __name__ == '__main__':
    main()
