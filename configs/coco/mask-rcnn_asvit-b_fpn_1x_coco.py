# Mask R-CNN with As-ViT-Base on COCO, 12 epochs on 8 GPUs of 2 images.
# Command:   tools/dist_train.sh configs/coco/mask-rcnn_asvit-b_fpn_1x_coco.py 8
_base_ = './mask-rcnn_asvit-s_fpn_1x_coco.py'

model = dict(
    backbone=dict(arch='base', drop_path_rate=0.3),
    neck=dict(in_channels=[116, 232, 464, 928]),
)
