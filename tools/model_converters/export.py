"""Export the model of a config to ONNX or torch.export, check the file against eager torch, and time both."""

from asvit_mm.errors import one_line_errors
from asvit_mm.export.settings import ExportSettings
from asvit_mm.utils.command_line import parse


def parse_args() -> ExportSettings:
    """Read the command line."""
    return parse(ExportSettings, __doc__)


def main() -> None:
    """Parse, then hand over to the package."""
    with one_line_errors():
        settings = parse_args()
        from asvit_mm.export.export import run_export

        run_export(settings)


if __name__ == '__main__':
    main()
