"""Compare the search methods: each from several seeds, scored by how its results rank among random seeds.

Resumable after a kill (--resume). Over two processes:
torchrun --nproc_per_node=2 tools/analysis_tools/compare_methods.py --launcher pytorch ...
"""

from pathlib import Path

from asvit_mm.analysis.settings import MethodsSettings
from asvit_mm.utils.command_line import make_tool

parse_args, main = make_tool(
    MethodsSettings,
    'asvit_mm.analysis.compare_methods:run_comparison',
    __doc__,
    tools=Path(__file__).parents[1],
)

if __name__ == '__main__':
    main()
