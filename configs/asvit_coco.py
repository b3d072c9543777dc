# Cascade Mask R-CNN with As-ViT-Large on COCO by the paper's protocol: 1024 x 1024, large-scale jitter,
# 36 epochs on 8 GPUs of 8 images.
# Command:   tools/dist_train.sh configs/asvit_coco.py 8
# Cost:      139,491,458 parameters, 813 G multiply-adds per image of 1024 x 1024
# Published: 139 M parameters, 1094 G; 52.7 box AP, 45.2 mask AP (arXiv 2202.11921; not measured here)
_base_ = [
    'mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py',
    'mmdet::common/lsj-100e_coco-instance.py',
]

image_size = (1024, 1024)
model = dict(
    # Training images are all as large as the crops, which windows of 32, 32, 16 and 8 tokens tile.
    data_preprocessor=dict(
        batch_augments=[dict(type='BatchFixedSizePad', size=image_size, pad_mask=True)]
    ),
    backbone=dict(
        _delete_=True,
        type='asvit_mm.AsViT',
        arch='large',
        out_indices=(0, 1, 2, 3),
        window_size=(32, 32, 16, 8),
        drop_path_rate=0.5,
        # The weights of the classifier, once it is trained:
        # init_cfg=dict(type='Pretrained', checkpoint='CHECKPOINT.pth', prefix='backbone.'),
    ),
    neck=dict(in_channels=[180, 360, 720, 1024]),
)

# With their scope, so that mmdet finds them under any: DetInferencer(NAME, scope='asvit_mm').
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmdet.Resize', scale=image_size, keep_ratio=True),
    dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='mmdet.PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(batch_size=8, num_workers=4, dataset=dict(times=1))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

train_cfg = dict(max_epochs=36, val_interval=6)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', begin=0, end=36, by_epoch=True, milestones=[27, 33], gamma=0.1),
]
optim_wrapper = dict(
    type='AmpOptimWrapper',
    optimizer=dict(_delete_=True, type='AdamW', lr=2e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='asvit_mm.BackboneDecayConstructor',
    paramwise_cfg=dict(
        layer_decay_rate=0.9,
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={'.pos_embed': dict(decay_mult=0.0)},
    ),
)
