# The classifier whose weights mask-rcnn_swin-c40_fpn_12e_scenes.py starts from: recipe of configs/digits,
# without phases of tokens.
# Data:      python -m asvit_mm.data.image_sets
# Command:   python tools/misc/demo_detection.py --peer
_base_ = [
    '../_base_/datasets/digits_bs64_32.py',
    '../_base_/schedules/digits_adamw_60e.py',
    'mmpretrain::_base_/default_runtime.py',
]

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='SwinTransformer',
        arch=dict(embed_dims=40, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8)),
        img_size=32,
        window_size=4,
        pad_small_map=True,
        drop_path_rate=0.0,
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=320,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)
custom_hooks = []
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'.relative_position_bias_table': dict(decay_mult=0.0)})
)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=5, max_keep_ckpts=1))
randomness = dict(seed=0)
