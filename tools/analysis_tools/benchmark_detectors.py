"""Time detectors side by side: parameters, multiply-adds and seconds of a prediction of one image.

Our configs and those that mmdet ships (mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py), with random
weights: nothing is downloaded. The whole prediction is timed: preprocessing of an image on the device,
backbone, neck, heads, suppression of overlapping boxes, and masks pasted into the image's size.
"""

from asvit_mm.analysis.settings import DetectorSettings
from asvit_mm.utils.command_line import make_tool

parse_args, main = make_tool(
    DetectorSettings, 'asvit_mm.analysis.benchmark_detectors:run_detectors', __doc__
)

if __name__ == '__main__':
    main()
