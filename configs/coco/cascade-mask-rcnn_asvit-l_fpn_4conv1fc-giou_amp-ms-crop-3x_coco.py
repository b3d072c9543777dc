# Cascade Mask R-CNN with As-ViT-Large on COCO, 36 epochs on 8 GPUs of 2 images, several scales and crops.
# Command:
#   tools/dist_train.sh configs/coco/cascade-mask-rcnn_asvit-l_fpn_4conv1fc-giou_amp-ms-crop-3x_coco.py 8
_base_ = './cascade-mask-rcnn_asvit-s_fpn_4conv1fc-giou_amp-ms-crop-3x_coco.py'

model = dict(
    backbone=dict(arch='large', drop_path_rate=0.5),
    neck=dict(in_channels=[180, 360, 720, 1024]),
)
