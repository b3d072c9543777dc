"""The backbone of an architecture in Mask R-CNN, as a config over mmdet's own, read back and compared."""

from ..arch import NUM_STAGES, Architecture
from ..cost import count_macs, count_params
from ..data.source import IMAGENET_SIZE, DataSource
from ..tokens import stage_sizes, window_length
from ..utils.units import format_count
from .configs import drop_path_rate
from .text import check_text, code_lines, comment, launch_command

MASK_RCNN = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
GPUS = 8
# Height and width that the base resizes to, as padded to a multiple of 32.
COCO_SIZE = (800, 1344)
STAGES = tuple(range(NUM_STAGES))


def detection_windows(arch: Architecture) -> tuple[int, ...]:
    """Tokens a side of each stage's windows at 224 x 224 pixels: (56, 28, 14, 7) over the splits.

    Fixed at these, windows cost and see in detection what they do in pretraining; if they grew with the
    image, attention alone would cost several times the rest. They tile the long side of COCO's images, 1344
    pixels, in every stage (1344 = 6 * 224).
    """
    return tuple(map(window_length, stage_sizes(IMAGENET_SIZE), arch.splits))


def detection_text(arch: Architecture, data: DataSource, *, path: str = 'CONFIG') -> str:
    """The text of a config that trains Mask R-CNN with the backbone of ``arch`` on COCO.

    Args:
        data: what the classifier beside it is trained on, and at which size: its weights fit as they are.
        path: of the config, for the command in its header.
    """
    params = count_params(arch, img_size=data.img_size, out_norms=STAGES)
    windows = detection_windows(arch)
    macs = count_macs(arch, COCO_SIZE, window_size=windows)
    height, width = COCO_SIZE
    rate = drop_path_rate(params)
    drop_path = f'\n        drop_path_rate={rate},' if rate else ''
    classifier = '' if data.kind == 'imagenet' else f'; its classifier on {data.name}'
    header = [
        f'As-ViT {arch} in Mask R-CNN',
        f'Backbone: {params:,} parameters ({format_count(params)}), {format_count(macs)} multiply-adds per '
        f'image of {width}x{height} pixels',
        f'Trains on COCO in data/coco, 1x schedule{classifier}',
        f'Train: {launch_command(path, GPUS)}',
    ]
    text = '\n'.join(map(comment, header))
    text += f"""

_base_ = {code_lines([MASK_RCNN])}

model = dict(
    backbone=dict(
        _delete_=True,
        type='asvit_mm.AsViT',
        arch={str(arch)!r},
        img_size={data.img_size},
        out_indices={STAGES},
        # Windows as at {IMAGENET_SIZE}x{IMAGENET_SIZE} pixels, in tokens; they would grow with the image.
        window_size={windows},{drop_path}
        # The weights of the classifier, once it is trained:
        # init_cfg=dict(type='Pretrained', checkpoint='CHECKPOINT.pth', prefix='backbone.'),
    ),
    neck=dict(in_channels={list(arch.widths)}),
)

# mmdet's optimizer for Swin, as in configs/_base_/schedules/coco_adamw_asvit_1x.py: the base's is SGD with a
# rate for ResNets. The rate is for 16 images per step.
optim_wrapper = dict(
    optimizer=dict(
        _delete_=True, type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05
    ),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={{'.pos_embed': dict(decay_mult=0.0)}},
    ),
)
"""
    expected = {
        'model.type': 'MaskRCNN',
        'model.backbone.type': 'asvit_mm.AsViT',
        'model.backbone.arch': str(arch),
        'model.backbone.out_indices': STAGES,
        'model.backbone.window_size': windows,
        'model.backbone.depth': None,  # of the base's ResNet
        'model.neck.in_channels': tuple(arch.widths),
    }
    check_text(text, expected)
    return text
