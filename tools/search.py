"""Search a seed architecture without training (REINFORCE on L^E and the NTK condition number).

Resumable after a kill (--resume).
"""

from pathlib import Path

from asvit_mm.errors import one_line_errors
from asvit_mm.runs.settings import SearchSettings
from asvit_mm.utils.command_line import parse


def parse_args() -> SearchSettings:
    """Read the command line."""
    return parse(SearchSettings, __doc__)


def main() -> None:
    """Parse, then hand over to the package."""
    with one_line_errors():
        settings = parse_args()
        from asvit_mm.runs.search import run_search

        run_search(settings, tools=Path(__file__).parent)


if __name__ == '__main__':
    main()
