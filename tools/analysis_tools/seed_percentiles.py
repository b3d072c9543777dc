"""How do these seeds rank among random ones, and what do repeats gain? Measures, nothing is trained.

Resumable after a kill (--resume), also with further architectures. Over two processes:
torchrun --nproc_per_node=2 tools/analysis_tools/seed_percentiles.py --launcher pytorch ...
"""

from asvit_mm.analysis.settings import SeedPercentileSettings
from asvit_mm.utils.command_line import make_tool

parse_args, main = make_tool(
    SeedPercentileSettings, 'asvit_mm.analysis.seed_percentiles:run_study', __doc__
)

if __name__ == '__main__':
    main()
