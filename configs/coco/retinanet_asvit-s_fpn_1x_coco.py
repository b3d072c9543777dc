# RetinaNet with As-ViT-Small on COCO, 12 epochs on 8 GPUs of 2 images.
# Command:   tools/dist_train.sh configs/coco/retinanet_asvit-s_fpn_1x_coco.py 8
_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    'mmdet::_base_/datasets/coco_detection.py',
    '../_base_/schedules/coco_adamw_asvit_1x.py',
    'mmdet::_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='asvit_mm.AsViT',
        arch='small',
        # Of the first stage RetinaNet makes no use.
        out_indices=(1, 2, 3),
        # They tile the 1344 pixels that the long side of an image is padded to.
        window_size=(28, 28, 14, 7),
        drop_path_rate=0.2,
        # The weights of the classifier, once it is trained:
        # init_cfg=dict(type='Pretrained', checkpoint='CHECKPOINT.pth', prefix='backbone.'),
    ),
    neck=dict(in_channels=[176, 352, 704], start_level=0),
)
