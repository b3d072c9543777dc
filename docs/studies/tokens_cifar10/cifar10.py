"""Pictures of 32 x 32 pixels in class folders below data/cifar10/train and test, for compare_schedules.py.

Random crop after padding by four pixels, flip; 12 epochs of AdamW, 1 of warm-up, then cosine.
"""

_base_ = [
    'mmpretrain::_base_/default_runtime.py',
    '../../../configs/_base_/datasets/digits_bs64_32.py',
    '../../../configs/_base_/schedules/digits_adamw_60e.py',
]

data_preprocessor = dict(mean=[125.3, 123.0, 113.9], std=[63.0, 62.1, 66.7])
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
data_root = 'data/cifar10'
folder = dict(type='asvit_mm.ImageFolder', data_root=data_root)
train_dataloader = dict(num_workers=0, dataset=dict(**folder, pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=250,
    num_workers=0,
    dataset=dict(**folder, data_prefix='test', pipeline=test_pipeline),
)
test_dataloader = val_dataloader

model = dict(backbone=dict(img_size=32))
optim_wrapper = dict(optimizer=dict(betas=(0.9, 0.999)))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=1, end=12, eta_min=1e-5, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=12)
custom_hooks = []
