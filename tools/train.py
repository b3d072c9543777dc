"""Train any config, classification or detection, through MMEngine's Runner."""

from asvit_mm.engine.arguments import TrainSettings
from asvit_mm.utils.command_line import make_tool

parse_args, main = make_tool(TrainSettings, 'asvit_mm.engine.runner:train', __doc__)

if __name__ == '__main__':
    main()
