# Seed-sized classifier of handwritten digits.
model = dict(
    type='ImageClassifier',
    backbone=dict(type='asvit_mm.AsViT', arch='seed', img_size=32),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='VisionTransformerClsHead',
        num_classes=10,
        in_channels=256,
        hidden_dim=256,
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)
