"""Write a config that trains a named network on your own images, chosen by what they are.

An image folder gives a classifier, annotations in COCO's format give a detector. Prints the command that
trains.
"""

from pathlib import Path

from asvit_mm.errors import one_line_errors
from asvit_mm.runs.settings import WriteConfigSettings
from asvit_mm.utils.command_line import parse


def parse_args() -> WriteConfigSettings:
    """Read the command line."""
    return parse(WriteConfigSettings, __doc__)


def main() -> None:
    """Parse, then hand over to the package."""
    with one_line_errors():
        settings = parse_args()
        from asvit_mm.runs.write_config import write_config

        write_config(settings, tools=Path(__file__).parent)


if __name__ == '__main__':
    main()
