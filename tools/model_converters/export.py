"""Export the model of a config to ONNX or torch.export, check the file against eager torch, and time both."""

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
        'checkpoint', nargs='?', help='its weights (default: random ones, for timing only)'
    )
    parser.add_argument('--format', choices=['onnx', 'torch'], default='onnx')
    parser.add_argument(
        '--output',
        choices=['logits', 'features'],
        help='logits of a classifier, without softmax, or maps of the backbone (default: logits, if any)',
    )
    parser.add_argument(
        '--size',
        type=int,
        nargs='+',
        help="pixels of the image: a side, or height and width (default: a classifier's img_size)",
    )
    parser.add_argument(
        '--dynamic-size',
        action='store_true',
        help='leave height and width free: multiples of what is printed; the batch is free in any case',
    )
    parser.add_argument(
        '--raw', action='store_true', help='take RGB pixels of 0 to 255 and normalise them inside'
    )
    parser.add_argument(
        '--out', metavar='FILE', help='.onnx or .pt2 (default: named by the config, in this folder)'
    )
    parser.add_argument(
        '--tolerance',
        type=float,
        default=1e-4,
        help='largest difference from eager torch at which the file is kept (default: 1e-4)',
    )
    parser.add_argument(
        '--batch-size', type=int, default=1, help='images of a call that is timed (default: 1)'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE', help=CFG_OPTIONS_HELP
    )
    return parser.parse_args()


def main() -> None:
    """Parse, then hand over to the package."""
    args = parse_args()
    with one_line_errors():
        from asvit_mm.engine.runner import parse_options
        from asvit_mm.export.export import run_export

        size = args.size and (args.size * 2 if len(args.size) == 1 else args.size)
        run_export(
            args.config,
            args.checkpoint,
            file_format=args.format,
            output=args.output,
            size=size,
            dynamic_size=args.dynamic_size,
            raw=args.raw,
            out=args.out,
            tolerance=args.tolerance,
            batch_size=args.batch_size,
            options=parse_options(args.cfg_options),
        )


if __name__ == '__main__':
    main()
