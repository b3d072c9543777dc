# mmdet's Swin, cut to about the multiply-adds of the network of asvit-3.0m-10mf, in the same detector.
# Data:      python -m asvit_mm.data.scenes
# Command:   python tools/misc/demo_detection.py --peer
_base_ = './mask-rcnn_asvit-seed_fpn_12e_scenes.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='SwinTransformer',
        embed_dims=40,
        depths=(2, 2, 2, 2),
        num_heads=(1, 2, 4, 8),
        window_size=4,
        drop_path_rate=0.0,
    ),
    neck=dict(in_channels=[40, 80, 160, 320]),
)
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'.relative_position_bias_table': dict(decay_mult=0.0)})
)
