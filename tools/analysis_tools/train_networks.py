"""Train networks, and peers of the field, side by side on an image folder by one recipe."""

from asvit_mm.analysis.settings import TrainNetworksSettings
from asvit_mm.utils.command_line import make_tool

parse_args, main = make_tool(
    TrainNetworksSettings, 'asvit_mm.analysis.train_networks:run_training', __doc__
)

if __name__ == '__main__':
    main()
