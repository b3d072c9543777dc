"""Scale a seed architecture without training into a series of networks, each with its config.

Resumable after a kill (--resume).
"""

from pathlib import Path

from asvit_mm.errors import one_line_errors
from asvit_mm.runs.settings import ScaleSettings
from asvit_mm.utils.command_line import parse


def parse_args() -> ScaleSettings:
    """Read the command line."""
    return parse(ScaleSettings, __doc__)


def main() -> None:
    """Parse, then hand over to the package."""
    with one_line_errors():
        settings = parse_args()
        from asvit_mm.runs.scale import run_scaling

        run_scaling(settings, tools=Path(__file__).parent)


if __name__ == '__main__':
    main()
