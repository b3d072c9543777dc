"""The backbone of an architecture in Mask R-CNN, as a config over mmdet's own, read back and compared."""

from mmengine.config import Config

from ..arch import NUM_STAGES, Architecture, as_architecture
from ..cost import count_macs, count_params
from ..data.source import IMAGENET_SIZE, DataSource
from ..tokens import stage_sizes, window_length
from ..utils.units import format_count
from .configs import base_block, drop_path_rate, launch_command

MASK_RCNN = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
GPUS = 8
# Height and width that the base resizes to, as padded to a multiple of 32.
COCO_SIZE = (800, 1344)
STAGES = tuple(range(NUM_STAGES))

# The base's rate is SGD's, for a ResNet; these are as in configs/_base_/schedules/coco_adamw_asvit_1x.py.
OPTIMIZER = """optim_wrapper = dict(
    optimizer=dict(
        _delete_=True, type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05
    ),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={'.pos_embed': dict(decay_mult=0.0)},
    ),
)"""


def detection_windows(arch: Architecture) -> tuple[int, ...]:
    """Tokens a side of each stage's windows at 224 x 224 pixels: (56, 28, 14, 7) over the splits.

    Fixed at these, windows cost and see in detection what they do in pretraining; grown with the image,
    attention alone would cost several times the rest. They tile the long side of COCO's images, 1344
    pixels, in every stage (1344 = 6 * 224).
    """
    sizes = stage_sizes(IMAGENET_SIZE)
    return tuple(map(window_length, sizes, arch.splits))


def detection_text(arch: Architecture, data: DataSource, *, path: str = 'CONFIG') -> str:
    """The text of a config that trains Mask R-CNN with the backbone of ``arch`` on COCO.

    Args:
        data: what the classifier beside it is trained on, and at which size: its weights fit as they are.
        path: what the header's command calls the config.
    """
    params = count_params(arch, img_size=data.img_size, out_norms=STAGES)
    windows = detection_windows(arch)
    macs = count_macs(arch, COCO_SIZE, window_size=windows)
    height, width = COCO_SIZE
    rate = drop_path_rate(params)
    lines = [
        f'# As-ViT {arch} in Mask R-CNN',
        f'# Backbone: {params:,} parameters ({format_count(params)}), {format_count(macs)} multiply-adds '
        f'an image of {width}x{height} pixels',
        '# Trains on COCO in data/coco, 1x schedule'
        + ('' if data.kind == 'imagenet' else f', whatever the classifier learns ({data.name})'),
        f'# Train: {launch_command(path, GPUS)}',
        '',
        base_block([MASK_RCNN]),
        '',
        'model = dict(',
        '    backbone=dict(',
        '        _delete_=True,',
        "        type='asvit_mm.AsViT',",
        f'        arch={str(arch)!r},',
        f'        img_size={data.img_size},',
        f'        out_indices={STAGES},',
        f'        # The windows of {IMAGENET_SIZE}x{IMAGENET_SIZE} pixels, in tokens a side; they would grow '
        'with the image.',
        f'        window_size={windows},',
        *([f'        drop_path_rate={rate},'] if rate else []),
        '        # The weights of the classifier, once it is trained:',
        "        # init_cfg=dict(type='Pretrained', checkpoint='CHECKPOINT.pth', prefix='backbone.'),",
        '    ),',
        f'    neck=dict(in_channels={list(arch.widths)}),',
        ')',
        '',
        '# The optimizer that mmdet trains Swin with; the rate is for 16 images a step.',
        OPTIMIZER,
    ]
    text = '\n'.join(lines) + '\n'
    _check(text, arch)
    return text


def _check(text: str, arch: Architecture) -> None:
    """Read the text back with MMEngine: a config that says something else is a defect of ours."""
    model = Config.fromstring(text, '.py').model
    backbone = model.backbone
    read = [
        model.type,
        backbone.type,
        as_architecture(backbone.arch),
        tuple(backbone.out_indices),
        tuple(backbone.window_size),
        backbone.get('depth'),  # of the base's ResNet
        tuple(model.neck.in_channels),
    ]
    meant = [
        'MaskRCNN', 'asvit_mm.AsViT', arch, STAGES, detection_windows(arch), None, arch.widths,
    ]  # fmt: skip
    if read != meant:
        raise RuntimeError(f'the detection config written for {arch} reads back as {read}')
