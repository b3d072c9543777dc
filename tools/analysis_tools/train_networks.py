"""Train networks, and peers of the field, side by side on an image folder by one recipe."""

from asvit_mm.analysis.settings import TrainNetworksSettings
from asvit_mm.errors import one_line_errors
from asvit_mm.utils.command_line import parse


def parse_args() -> TrainNetworksSettings:
    """Read the command line."""
    return parse(TrainNetworksSettings, __doc__)


def main() -> None:
    """Parse, then hand over to the package."""
    with one_line_errors():
        settings = parse_args()
        from asvit_mm.analysis.train_networks import run_training

        run_training(settings)


if __name__ == '__main__':
    main()
