"""A detector on one's own annotations in COCO's format: everything that the data decides, filled in.

Faster R-CNN, or Mask R-CNN where every object has a mask, as mmdet ships them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..arch import Architecture
from ..cost import count_macs, count_params
from ..data.coco import CocoScan
from ..data.images import channel_statistics_of
from ..data.source import IMAGENET_SIZE
from ..utils.units import format_count
from .configs import drop_path_rate
from .detection import ANCHOR_SIDE, STAGES, detection_windows, stride_settings
from .image_folder import NO_VALIDATION, SEED, optimizer_text
from .text import assignments, check_text, code, comment, launch_command

# mmdet's size for COCO, (long, short) side, and images that are not larger are trained on as they are.
COCO_SCALE = (1333, 800)
# Boxes of fewer pixels a side are hard to find: images of such boxes are enlarged, once, to twice their size.
TINY_BOX = 8.0
# Sides of the smallest anchors in pixels, of which one is chosen; the first is mmdet's.
ANCHOR_SIDES = (ANCHOR_SIDE, 24, 16, 12, 8)
# The learning rate for four images a step; for other batches in proportion.
RATE, RATE_BATCH = 2e-4, 4
STEPS, EPOCH_RANGE = 6_000, (12, 100)
# Width of neck and heads by the parameters of the backbone, up to which they are so wide.
CHANNELS = ((5_000_000, 64), (20_000_000, 128))


@dataclass(frozen=True)
class DetectionPlan:
    """What is chosen for a set of annotated images.

    Attributes:
        scale: (long, short) side that images are resized to, in pixels.
        anchor_side: of the smallest anchors, in pixels.
        channels: width of neck and heads.
        epochs, batch_size: of the run; the batch is that of one process.
        reasons: of the choice, one a line.
    """

    scale: tuple[int, int]
    anchor_side: int
    channels: int
    epochs: int
    batch_size: int
    reasons: tuple[str, ...]


def plan_detection(
    data: CocoScan,
    params: int,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    long_side: int | None = None,
) -> DetectionPlan:
    """The plan for a set and a backbone with ``params`` parameters; what is given is not chosen."""
    size = max(data.size), min(data.size)
    factor = min(large / own for large, own in zip(COCO_SCALE, size, strict=True))
    factor = min(2.0 if data.small_box < TINY_BOX else 1.0, factor)
    if long_side:
        factor = long_side / size[0]
    own = round(size[0] * factor), round(size[1] * factor)
    scale = COCO_SCALE if factor < 1 and not long_side else own
    small, large = data.small_box * factor, data.large_box * factor
    anchor = next((side for side in ANCHOR_SIDES if side <= small), ANCHOR_SIDES[-1])
    channels = next((width for limit, width in CHANNELS if params < limit), 256)
    batch_size = batch_size or 2
    least, most = EPOCH_RANGE
    steps = -(-len(data.files) // batch_size)
    epochs = epochs or max(least, min(STEPS // steps, most))
    reasons = (
        f'Recipe for {len(data.files):,} images of about {data.size[0]}x{data.size[1]} pixels in '
        f'{len(data.classes)} classes, {epochs} epochs of {steps:,} steps:',
        f'- resized to {scale[0]}x{scale[1]}, where most boxes have sides of {small:.0f} to {large:.0f} '
        f'pixels: anchors from {anchor} pixels on',
        f'- {"every object has a mask: Mask R-CNN" if data.masks else "no masks: Faster R-CNN"}, {channels} '
        f'channels wide for a backbone of {format_count(params)}',
        f'- learning rate for {RATE_BATCH} images a step, in proportion to the batch; warm-up and end are '
        'shares of the run, so every train_cfg.max_epochs works',
    )
    return DetectionPlan(scale, anchor, channels, epochs, batch_size, reasons)


def coco_text(
    arch: Architecture,
    data: CocoScan,
    *,
    path: str = 'CONFIG',
    epochs: int | None = None,
    batch_size: int | None = None,
    long_side: int | None = None,
    img_size: int = IMAGENET_SIZE,
    backbone: Mapping[str, Any] | None = None,
    normalization: Mapping[str, Any] | None = None,
) -> str:
    """The text of a config that trains a detector with the backbone of ``arch`` on a set of one's own.

    Args:
        path: of the config, for the command in its header.
        epochs, batch_size, long_side (of the images, in pixels): instead of the chosen ones.
        img_size: image size of the classifier whose weights fit as they are.
        backbone: further arguments of the backbone, such as ``init_cfg``.
        normalization: ``mean`` and ``std`` that pretrained weights expect; None: those of the images.
    """
    params = count_params(arch, img_size=img_size, out_norms=STAGES)
    plan = plan_detection(data, params, epochs=epochs, batch_size=batch_size, long_side=long_side)
    height, width = plan.scale[1], plan.scale[0]
    windows = detection_windows(arch)
    macs = count_macs(arch, (height, width), window_size=windows)
    header = comment(
        f'As-ViT {arch} in {"Mask" if data.masks else "Faster"} R-CNN',
        f'Backbone: {params:,} parameters ({format_count(params)}), {format_count(macs)} multiply-adds per '
        f'image of {width}x{height} pixels',
        *([data.note] if data.note else []),
        f'Train: {launch_command(path, 1)}',
        *plan.reasons,
    )
    settings = {
        'classes': list(data.classes),
        'train_annotations': data.train.annotations,
        'train_images': data.train.images,
        **(
            {'val_annotations': data.val.annotations, 'val_images': data.val.images}
            if data.val
            else {}
        ),
        'scale': plan.scale,
        'batch_size': plan.batch_size,
    }
    network = {
        'type': 'asvit_mm.AsViT',
        'arch': str(arch),
        'img_size': img_size,
        'out_indices': STAGES,
        'window_size': windows,
        'drop_path_rate': drop_path_rate(params),
        **(backbone or {}),
    }
    model = _model(
        arch, data, plan, network, dict(normalization or channel_statistics_of(data.files))
    )
    name = 'mask-rcnn' if data.masks else 'faster-rcnn'
    bases = [f'mmdet::_base_/models/{name}_r50_fpn.py', 'mmdet::_base_/default_runtime.py']
    blocks = (
        header,
        assignments({'_base_': bases}),
        assignments(settings),
        f'model = {code(model)}',
        _data_text(data),
        _schedule_text(data, plan),
    )
    text = '\n\n'.join(block.strip() for block in blocks) + '\n'
    check_text(
        text,
        {
            'model.backbone.arch': str(arch),
            'model.neck.in_channels': list(arch.widths),
            'classes': list(data.classes),
            'train_dataloader.dataset.metainfo.classes': list(data.classes),
        },
    )
    return text


def _model(
    arch: Architecture,
    data: CocoScan,
    plan: DetectionPlan,
    network: dict[str, Any],
    normalization: dict[str, Any],
) -> dict[str, Any]:
    channels, classes = plan.channels, len(data.classes)
    rpn, extractors = stride_settings(arch, plan.anchor_side, masks=data.masks)
    heads: dict[str, Any] = {
        name: {'out_channels': channels, **extractor} for name, extractor in extractors.items()
    }
    heads['bbox_head'] = {
        'in_channels': channels,
        'fc_out_channels': 4 * channels,
        'num_classes': classes,
    }
    if data.masks:
        heads['mask_head'] = {
            'in_channels': channels,
            'conv_out_channels': channels,
            'num_classes': classes,
        }
    return {
        'data_preprocessor': normalization,
        'backbone': {'_delete_': True, **network},
        'neck': {'in_channels': list(arch.widths), 'out_channels': channels},
        'rpn_head': {'in_channels': channels, 'feat_channels': channels, **rpn},
        'roi_head': heads,
    }


def _data_text(data: CocoScan) -> str:
    masks = ', with_mask=True' if data.masks else ''
    text = f"""
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True{masks}),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
# With their scope, so that mmdet's inferencer finds them under any.
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmdet.Resize', scale=scale, keep_ratio=True),
    # After the resizing: the ground truth is that of the images as they are.
    dict(type='mmdet.LoadAnnotations', with_bbox=True{masks}),
    dict(
        type='mmdet.PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=2,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(
        type='CocoDataset',
        ann_file=train_annotations,
        data_prefix=dict(img=train_images),
        metainfo=dict(classes=classes),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline,
    ),
)
"""
    if data.val is None:
        return text + NO_VALIDATION
    metrics = "['bbox', 'segm']" if data.masks else "'bbox'"
    return f"""{text}val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset',
        ann_file=val_annotations,
        data_prefix=dict(img=val_images),
        metainfo=dict(classes=classes),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(type='CocoMetric', ann_file=val_annotations, metric={metrics})
test_dataloader = val_dataloader
test_evaluator = val_evaluator
"""


def _schedule_text(data: CocoScan, plan: DetectionPlan) -> str:
    best = ", save_best='coco/bbox_mAP', rule='greater'" if data.val else ''
    loop = 'dict()' if data.val else 'None'
    optimizer = optimizer_text(RATE, RATE_BATCH, 5.0, 0.05, wrapper="type='OptimWrapper'")
    return f"""{optimizer}
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs={plan.epochs}, val_interval=1)
val_cfg = {loop}
test_cfg = {loop}
default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(max_keep_ckpts=1{best}),
)
custom_hooks = [dict(type='asvit_mm.EpochSeedHook')]
randomness = dict(seed={SEED})"""
