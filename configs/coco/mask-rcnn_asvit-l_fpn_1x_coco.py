# Mask R-CNN with As-ViT-Large on COCO, 12 epochs on 8 GPUs of 2 images.
# Command:   tools/dist_train.sh configs/coco/mask-rcnn_asvit-l_fpn_1x_coco.py 8
_base_ = './mask-rcnn_asvit-s_fpn_1x_coco.py'

model = dict(
    backbone=dict(arch='large', drop_path_rate=0.5),
    neck=dict(in_channels=[180, 360, 720, 1024]),
)
