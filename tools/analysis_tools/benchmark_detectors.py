"""Time detectors side by side: parameters, multiply-adds and seconds of a prediction of one image.

Our configs and those that mmdet ships (mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py), with random
weights: nothing is downloaded. The whole prediction is timed: preprocessing of an image on the device,
backbone, neck, heads, suppression of overlapping boxes, and masks pasted into the image's size.
"""

import argparse
from pathlib import Path

from asvit_mm.errors import one_line_errors

CONFIGS = Path(__file__).parents[2] / 'configs'
CASCADE = '4conv1fc-giou_amp-ms-crop-3x_coco.py'
PEERS = [
    *(str(CONFIGS / f'coco/mask-rcnn_asvit-{size}_fpn_1x_coco.py') for size in 'sb'),
    'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py',
    'mmdet::swin/mask-rcnn_swin-s-p4-w7_fpn_amp-ms-crop-3x_coco.py',
    'mmdet::convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco.py',
    *(str(CONFIGS / f'coco/cascade-mask-rcnn_asvit-{size}_fpn_{CASCADE}') for size in 'sbl'),
    *(f'mmdet::convnext/cascade-mask-rcnn_convnext-{size}-p4-w7_fpn_{CASCADE}' for size in 'ts'),
    str(CONFIGS / 'asvit_coco.py'),
]


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'configs',
        nargs='*',
        default=PEERS,
        metavar='CONFIG',
        help="path of a detector's config, or mmdet::FOLDER/NAME.py (default: Mask and Cascade Mask R-CNN "
        "with our backbones, mmdet's Swin and ConvNeXt)",
    )
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        default=[800, 1344],
        help="pixels of the image: a side, or height and width (default: 800 1344, COCO's padded)",
    )
    parser.add_argument(
        '--rounds',
        type=int,
        default=3,
        help='timed predictions of each detector, in turn (default: %(default)s)',
    )
    parser.add_argument(
        '--device', choices=['cpu', 'cuda'], default='cpu', help='default: %(default)s'
    )
    parser.add_argument('--threads', type=int, help="CPU threads (default: torch's)")
    parser.add_argument('--json', metavar='FILE', help='write the figures here')
    return parser.parse_args()


def main() -> None:
    """Parse, then hand over to the package."""
    args = parse_args()
    with one_line_errors():
        from asvit_mm.analysis.benchmark_detectors import run_detectors

        run_detectors(
            args.configs,
            args.shape * 2 if len(args.shape) == 1 else args.shape,
            rounds=args.rounds,
            device=args.device,
            threads=args.threads,
            json=args.json,
        )


if __name__ == '__main__':
    main()
