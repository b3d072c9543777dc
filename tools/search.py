"""Search a seed architecture without training (REINFORCE on L^E and the NTK condition number).

Resumable after a kill (--resume).
"""

from pathlib import Path

from asvit_mm.runs.settings import SearchSettings
from asvit_mm.utils.command_line import make_tool

parse_args, main = make_tool(
    SearchSettings, 'asvit_mm.runs.search:run_search', __doc__, tools=Path(__file__).parent
)

if __name__ == '__main__':
    main()
