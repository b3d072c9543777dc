# As-ViT 8,2,3,4|4,4,4,2|4,1,6,3|4,1,2,5|16,168 in Mask R-CNN
# Backbone: 83,688,424 parameters (83.7 M), 413 G multiply-adds an image of 1344x800 pixels
# Trains on COCO in data/coco, 1x schedule
# Train: bash tools/dist_train.sh work_dirs/full/scale/configs/mask-rcnn_asvit-86m-18gf_fpn_1x_coco.py 8

_base_ = [
    'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='asvit_mm.AsViT',
        arch='8,2,3,4|4,4,4,2|4,1,6,3|4,1,2,5|16,168',
        img_size=224,
        out_indices=(0, 1, 2, 3),
        # The windows of 224x224 pixels, in tokens a side; they would grow with the image.
        window_size=(28, 7, 14, 7),
        drop_path_rate=0.5,
        # The weights of the classifier, once it is trained:
        # init_cfg=dict(type='Pretrained', checkpoint='CHECKPOINT.pth', prefix='backbone.'),
    ),
    neck=dict(in_channels=[168, 336, 672, 1024]),
)

# As mmdet trains Mask R-CNN with Swin; the rate is for 16 images a step.
optim_wrapper = dict(
    optimizer=dict(
        _delete_=True, type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05
    ),
    paramwise_cfg=dict(
        norm_decay_mult=0.0, custom_keys={'.pos_embed': dict(decay_mult=0.0)}
    ),
)
