"""Test (evaluate) a checkpoint of any config, classification or detection."""

import argparse
import os

from asvit_mm.engine.arguments import add_runner_arguments, export_local_rank
from asvit_mm.errors import one_line_errors


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='path of the config')
    parser.add_argument('checkpoint', help='path of the checkpoint (.pth)')
    parser.add_argument('--out', help='write the metrics (.json) or the predictions (.pkl) here')
    parser.add_argument(
        '--out-item', choices=['metrics', 'pred'], help='what to write (default: by the suffix)'
    )
    # Absolute, or mmdet would put it into the work dir's subfolder of this run.
    parser.add_argument(
        '--show-dir', type=os.path.abspath, help='folder for pictures of the predictions'
    )
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument(
        '--interval', type=int, default=1, help='picture every N-th sample (classification)'
    )
    parser.add_argument('--wait-time', type=float, default=2, help='seconds a window stays')
    parser.add_argument(
        '--token-stride',
        type=int,
        metavar='N',
        help='pixels between two tokens, for weights that were trained at several strides (default: those of '
        'the config)',
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help="test-time augmentation: the config's tta_model and tta_pipeline, or else the mean over an "
        'image and its mirror image',
    )
    add_runner_arguments(parser)
    return parser.parse_args()


def main() -> None:
    """Parse, then hand over to the package."""
    args = parse_args()
    export_local_rank(args)
    with one_line_errors():
        from asvit_mm.engine.runner import test

        test(args)


if __name__ == '__main__':
    main()
