"""Compare the search methods: each from several seeds, scored by how its results rank among random seeds.

Resumable after a kill (--resume). Over two processes:
torchrun --nproc_per_node=2 tools/analysis_tools/compare_methods.py --launcher pytorch ...
"""

from pathlib import Path

from asvit_mm.analysis.settings import MethodsSettings
from asvit_mm.errors import one_line_errors
from asvit_mm.utils.command_line import parse


def parse_args() -> MethodsSettings:
    """Read the command line."""
    return parse(MethodsSettings, __doc__)


def main() -> None:
    """Parse, then hand over to the package."""
    with one_line_errors():
        settings = parse_args()
        from asvit_mm.analysis.compare_methods import run_comparison

        run_comparison(settings, tools=Path(__file__).parents[1])


if __name__ == '__main__':
    main()
