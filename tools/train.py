"""Train any config, classification or detection, through MMEngine's Runner."""

import argparse

from asvit_mm.engine.arguments import add_runner_arguments, export_local_rank
from asvit_mm.errors import one_line_errors


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='path of the config')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='PATH',
        help='resume from the checkpoint PATH, or from the latest one in the work dir (auto)',
    )
    parser.add_argument('--no-validate', action='store_true', help='train without validation')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate by the real batch over the config's base batch",
    )
    add_runner_arguments(parser)
    return parser.parse_args()


def main() -> None:
    """Parse, then hand over to the package."""
    args = parse_args()
    export_local_rank(args)
    with one_line_errors():
        from asvit_mm.engine.runner import train

        train(args)


if __name__ == '__main__':
    main()
