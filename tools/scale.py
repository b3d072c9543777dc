"""Scale a seed architecture without training into a series of networks, each with its config.

Resumable after a kill (--resume).
"""

from pathlib import Path

from asvit_mm.runs.settings import ScaleSettings
from asvit_mm.utils.command_line import make_tool

parse_args, main = make_tool(
    ScaleSettings, 'asvit_mm.runs.scale:run_scaling', __doc__, tools=Path(__file__).parent
)

if __name__ == '__main__':
    main()
