# Cascade Mask R-CNN with As-ViT-Small on COCO, 36 epochs on 8 GPUs of 2 images, several scales and crops.
# Command:
#   tools/dist_train.sh configs/coco/cascade-mask-rcnn_asvit-s_fpn_4conv1fc-giou_amp-ms-crop-3x_coco.py 8
# Heads, augmentation and schedule are those of mmdet's ConvNeXt.
_base_ = (
    'mmdet::convnext/cascade-mask-rcnn_convnext-t-p4-w7_fpn_4conv1fc-giou_amp-ms-crop-3x_coco.py'
)

model = dict(
    backbone=dict(
        _delete_=True,
        type='asvit_mm.AsViT',
        arch='small',
        out_indices=(0, 1, 2, 3),
        # They tile the 1344 pixels that the long side of an image is padded to.
        window_size=(28, 28, 14, 7),
        drop_path_rate=0.2,
        # The weights of the classifier, once it is trained:
        # init_cfg=dict(type='Pretrained', checkpoint='CHECKPOINT.pth', prefix='backbone.'),
    ),
    neck=dict(in_channels=[88, 176, 352, 704]),
)

# The base's constructor knows ConvNeXt alone.
optim_wrapper = dict(
    constructor='asvit_mm.BackboneDecayConstructor',
    paramwise_cfg=dict(
        _delete_=True,
        layer_decay_rate=0.9,
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={'.pos_embed': dict(decay_mult=0.0)},
    ),
)
