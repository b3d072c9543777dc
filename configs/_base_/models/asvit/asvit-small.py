# As-ViT-Small classifier: the paper's head is linear - tanh - linear.
model = dict(
    type='ImageClassifier',
    backbone=dict(type='asvit_mm.AsViT', arch='small', img_size=224, drop_path_rate=0.2),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='VisionTransformerClsHead',
        num_classes=1000,
        in_channels=704,
        hidden_dim=704,
        act_cfg=dict(type='Tanh'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
