"""Study what the complexity measures predict: sample, measure, train, correlate.

Resumable after a kill (--resume). Over two processes:
torchrun --nproc_per_node=2 tools/analysis_tools/correlate.py --launcher pytorch ...
"""

from asvit_mm.analysis.settings import CorrelateSettings
from asvit_mm.utils.command_line import make_tool

parse_args, main = make_tool(CorrelateSettings, 'asvit_mm.analysis.correlate:run_study', __doc__)

if __name__ == '__main__':
    main()
