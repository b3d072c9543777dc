"""Count parameters and multiply-adds of a config's model, module by module, attention included."""

import argparse

from asvit_mm.engine.arguments import CFG_OPTIONS_HELP
from asvit_mm.errors import one_line_errors


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'config',
        help='path of a config, classification or detection; mmdet::FOLDER/NAME.py: one that mmdet ships',
    )
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        help="pixels of the image: a side, or height and width (default: the backbone's img_size)",
    )
    parser.add_argument('--json', metavar='FILE', help='write the figures here')
    parser.add_argument(
        '--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE', help=CFG_OPTIONS_HELP
    )
    return parser.parse_args()


def main() -> None:
    """Parse, then hand over to the package."""
    args = parse_args()
    with one_line_errors():
        from asvit_mm.analysis.flops import run_flops
        from asvit_mm.engine.runner import parse_options

        shape = args.shape and (args.shape * 2 if len(args.shape) == 1 else args.shape)
        run_flops(args.config, shape, parse_options(args.cfg_options), args.json)


if __name__ == '__main__':
    main()
