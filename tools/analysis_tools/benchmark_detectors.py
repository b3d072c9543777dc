"""Time detectors side by side: parameters, multiply-adds and seconds of a prediction of one image.

Our configs and those that mmdet ships (mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py), with random
weights: nothing is downloaded. The whole prediction is timed: preprocessing of an image on the device,
backbone, neck, heads, suppression of overlapping boxes, and masks pasted into the image's size.
"""

from asvit_mm.analysis.settings import DetectorSettings
from asvit_mm.errors import one_line_errors
from asvit_mm.utils.command_line import parse


def parse_args() -> DetectorSettings:
    """Read the command line."""
    return parse(DetectorSettings, __doc__)


def main() -> None:
    """Parse, then hand over to the package."""
    with one_line_errors():
        settings = parse_args()
        from asvit_mm.analysis.benchmark_detectors import run_detectors

        run_detectors(settings)


if __name__ == '__main__':
    main()
