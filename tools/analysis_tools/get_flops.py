"""Count parameters and multiply-adds of a config's model, module by module, attention included."""

from asvit_mm.analysis.settings import FlopsSettings
from asvit_mm.errors import one_line_errors
from asvit_mm.utils.command_line import parse


def parse_args() -> FlopsSettings:
    """Read the command line."""
    return parse(FlopsSettings, __doc__)


def main() -> None:
    """Parse, then hand over to the package."""
    with one_line_errors():
        settings = parse_args()
        from asvit_mm.analysis.flops import run_flops

        run_flops(settings)


if __name__ == '__main__':
    main()
