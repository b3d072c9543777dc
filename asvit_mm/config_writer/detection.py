"""The backbone of an architecture in Mask R-CNN, as a config over mmdet's own, read back and compared."""

from typing import Any

from ..arch import BASE_STRIDE, NUM_STAGES, Architecture
from ..cost import count_macs, count_params
from ..data.source import IMAGENET_SIZE, DataSource
from ..tokens import stage_sizes, window_length
from ..utils.units import format_count
from .configs import drop_path_rate
from .shipped import shipped_text
from .text import check_text, code, comment, launch_command

GPUS = 8
# Height and width that the base resizes to, as padded to a multiple of 32.
COCO_SIZE = (800, 1344)
# Side of mmdet's smallest anchors in pixels.
ANCHOR_SIDE = 32
STAGES = tuple(range(NUM_STAGES))


def detection_windows(arch: Architecture) -> tuple[int, ...]:
    """Tokens per side of each stage's windows at 224 x 224 pixels.

    At the usual stride they are (56, 28, 14, 7) over the splits. Fixed at these, windows cost and see in
    detection what they do in pretraining; if they grew with the image, attention alone would cost several
    times the rest. They tile the long side of COCO's images, 1344 pixels, in every stage (1344 = 6 * 224).
    """
    return tuple(map(window_length, stage_sizes(IMAGENET_SIZE, arch.stride), arch.splits))


def stride_settings(
    arch: Architecture, anchor_side: int, *, masks: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What follows from the pixels per token: of mmdet's ``rpn_head`` and of its ``roi_head``.

    Args:
        anchor_side: of the smallest anchors, in pixels.
        masks: whether there is a head for them.
    """
    strides = [arch.stride * 2**i for i in range(NUM_STAGES + 1)]
    extractors = ('bbox_roi_extractor', 'mask_roi_extractor')[: 1 + masks]
    return (
        {'anchor_generator': {'scales': [anchor_side // arch.stride], 'strides': strides}},
        {name: {'featmap_strides': strides[:NUM_STAGES]} for name in extractors},
    )


def detection_text(arch: Architecture, data: DataSource, *, path: str = 'CONFIG') -> str:
    """The text of a config that trains Mask R-CNN with the backbone of ``arch`` on COCO.

    Args:
        data: what the classifier beside it is trained on, and at which size: its weights fit as they are.
        path: of the config, for the command in its header.
    """
    params = count_params(arch, img_size=data.img_size, out_norms=STAGES)
    windows = detection_windows(arch)
    macs = count_macs(arch, COCO_SIZE, window_size=windows)
    rpn, roi = stride_settings(arch, ANCHOR_SIDE, masks=True)
    # mmdet's own strides are those of an architecture with the usual one.
    strides = f'\n    rpn_head={code(rpn, 4)},\n    roi_head={code(roi, 4)},'
    strides *= arch.stride != BASE_STRIDE
    height, width = COCO_SIZE
    classifier = '' if data.kind == 'imagenet' else f'; its classifier on {data.name}'
    header = comment(
        f'As-ViT {arch} in Mask R-CNN',
        f'Backbone: {params:,} parameters ({format_count(params)}), {format_count(macs)} multiply-adds per '
        f'image of {width}x{height} pixels',
        f'Trains on COCO in data/coco, 1x schedule{classifier}',
        f'Train: {launch_command(path, GPUS)}',
    )
    text = f"""{header}

_base_ = ['mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='asvit_mm.AsViT',
        arch={str(arch)!r},
        img_size={data.img_size},
        out_indices={STAGES},
        # Windows as at {IMAGENET_SIZE}x{IMAGENET_SIZE} pixels, in tokens; they would grow with the image.
        window_size={windows},
        drop_path_rate={drop_path_rate(params)},
        # The weights of the classifier, once it is trained:
        # init_cfg=dict(type='Pretrained', checkpoint='CHECKPOINT.pth', prefix='backbone.'),
    ),
    neck=dict(in_channels={list(arch.widths)}),{strides}
)

{shipped_text('_base_/schedules/coco_adamw_asvit_1x.py')}
"""
    expected = {
        'model.backbone.arch': str(arch),
        'model.backbone.window_size': windows,
        'model.neck.in_channels': list(arch.widths),
    }
    check_text(text, expected)
    return text
