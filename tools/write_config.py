"""Write a config that trains a named network on your own images, chosen by what they are.

An image folder gives a classifier, annotations in COCO's format give a detector. Prints the command that
trains.
"""

from pathlib import Path

from asvit_mm.runs.settings import WriteConfigSettings
from asvit_mm.utils.command_line import make_tool

parse_args, main = make_tool(
    WriteConfigSettings,
    'asvit_mm.runs.write_config:write_config',
    __doc__,
    tools=Path(__file__).parent,
)

if __name__ == '__main__':
    main()
