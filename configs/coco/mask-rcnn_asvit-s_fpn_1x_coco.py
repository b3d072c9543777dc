# Mask R-CNN with As-ViT-Small on COCO, 12 epochs on 8 GPUs of 2 images.
# Command:   tools/dist_train.sh configs/coco/mask-rcnn_asvit-s_fpn_1x_coco.py 8
_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='asvit_mm.AsViT',
        arch='small',
        out_indices=(0, 1, 2, 3),
        window_size=(32, 32, 16, 8),
        drop_path_rate=0.2,
        # The weights of the classifier, once it is trained:
        # init_cfg=dict(type='Pretrained', checkpoint='CHECKPOINT.pth', prefix='backbone.'),
    ),
    neck=dict(in_channels=[88, 176, 352, 704]),
)

# As mmdet trains Mask R-CNN with Swin; the rate is for 16 images a step.
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={'.pos_embed': dict(decay_mult=0.0)},
    ),
)
