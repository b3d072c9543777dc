# A small UPerNet with the network of configs/digits, on crops of scenes of handwritten digits, 1600 steps.
# Data:      python -m asvit_mm.data.scenes
# Command:   python tools/train.py configs/scenes/asvit-3.0m-10mf_upernet_b16-1600_scenes-64x64.py
# Cost:      3,522,894 parameters, 0.38 G multiply-adds per image of 128 x 128
# Measured:  46.58 mIoU on 120 held-out scenes (seed 0, one run, from the classifier's weights: docs/doors.md)
# Weights of the classifier in configs/digits go in by model.backbone.init_cfg.
_base_ = ['mmseg::_base_/models/upernet_swin.py', 'mmseg::_base_/default_runtime.py']

classes = (
    *('background', 'zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine'),
)
palette = [[0, 0, 0], [230, 25, 75], [60, 180, 75], [255, 225, 25], [0, 130, 200], [245, 130, 48]]
palette += [[145, 30, 180], [70, 240, 240], [240, 50, 230], [210, 245, 60], [250, 190, 212]]
norm_cfg = dict(type='BN')
# Nine pixels of ten are background.
weights = [0.1] + [1.0] * 10
crop_size = (64, 64)

model = dict(
    # The digits' mean and deviation, as the classifier in configs/digits has them.
    data_preprocessor=dict(size=crop_size, mean=[77.9] * 3, std=[95.9] * 3),
    backbone=dict(
        _delete_=True,
        type='asvit_mm.AsViT',
        arch='6,2,6,2|4,1,3,1|4,1,5,1|3,1,6,1|32,40',
        img_size=32,
        out_indices=(0, 1, 2, 3),
        window_size=(8, 8, 8, 4),
    ),
    decode_head=dict(
        in_channels=[40, 80, 160, 320],
        channels=64,
        pool_scales=(1, 2),
        num_classes=len(classes),
        norm_cfg=norm_cfg,
        loss_decode=dict(class_weight=weights),
    ),
    auxiliary_head=dict(
        in_channels=160,
        channels=64,
        num_classes=len(classes),
        norm_cfg=norm_cfg,
        loss_decode=dict(class_weight=weights),
    ),
)

dataset = dict(
    type='BaseSegDataset',
    data_root='data/scenes/',
    metainfo=dict(classes=classes, palette=palette),
    img_suffix='.png',
)
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        **dataset,
        data_prefix=dict(img_path='train2017', seg_map_path='semantic/train2017'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.9),
            dict(type='PhotoMetricDistortion'),
            dict(type='PackSegInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **dataset,
        data_prefix=dict(img_path='val2017', seg_map_path='semantic/val2017'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(128, 128), keep_ratio=True),
            # After the resizing: the ground truth is that of the images as they are.
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator

train_cfg = dict(type='IterBasedTrainLoop', max_iters=1600, val_interval=1600)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=50),
    dict(type='PolyLR', begin=50, end=1600, power=1.0, eta_min=1e-6, by_epoch=False),
]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={'.pos_embed': dict(decay_mult=0.0)},
    ),
)
auto_scale_lr = dict(base_batch_size=16)
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=20, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1600, max_keep_ckpts=1),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'),
)
randomness = dict(seed=0)
