# RetinaNet with As-ViT-Small on COCO, 12 epochs on 8 GPUs of 2 images.
# Command:   tools/dist_train.sh configs/coco/retinanet_asvit-s_fpn_1x_coco.py 8
_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='asvit_mm.AsViT',
        arch='small',
        # Of the first stage RetinaNet makes no use.
        out_indices=(1, 2, 3),
        window_size=(32, 32, 16, 8),
        drop_path_rate=0.2,
        # The weights of the classifier, once it is trained:
        # init_cfg=dict(type='Pretrained', checkpoint='CHECKPOINT.pth', prefix='backbone.'),
    ),
    neck=dict(in_channels=[176, 352, 704], start_level=0),
)

# The rate is for 16 images a step.
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={'.pos_embed': dict(decay_mult=0.0)},
    ),
)
