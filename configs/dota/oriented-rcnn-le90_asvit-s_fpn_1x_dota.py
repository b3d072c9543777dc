# Oriented R-CNN with As-ViT-Small on DOTA, 12 epochs on one GPU of 2 images of 1024 x 1024.
# Command:   python tools/train.py configs/dota/oriented-rcnn-le90_asvit-s_fpn_1x_dota.py
# Detector, data and schedule are those of mmrotate's ResNet.
_base_ = 'mmrotate::oriented_rcnn/oriented-rcnn-le90_r50_fpn_1x_dota.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='asvit_mm.AsViT',
        arch='small',
        out_indices=(0, 1, 2, 3),
        # They tile the 1024 pixels of an image.
        window_size=(32, 32, 16, 8),
        drop_path_rate=0.2,
        # The weights of the classifier, once it is trained:
        # init_cfg=dict(type='Pretrained', checkpoint='CHECKPOINT.pth', prefix='backbone.'),
    ),
    neck=dict(in_channels=[88, 176, 352, 704]),
)

optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='asvit_mm.BackboneDecayConstructor',
    paramwise_cfg=dict(
        layer_decay_rate=0.9,
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={'.pos_embed': dict(decay_mult=0.0)},
    ),
)
auto_scale_lr = dict(enable=False, base_batch_size=2)
