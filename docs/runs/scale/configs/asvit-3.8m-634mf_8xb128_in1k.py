# As-ViT 8,2,3,1|4,4,4,1|4,1,6,1|4,1,2,2|16,40
# 3,793,520 parameters (3.79 M), 634 M multiply-adds an image of 224x224 pixels, 1000 classes
# measured on noise, no labels to train on: trains on ImageNet-1k in data/imagenet
# Train: bash tools/dist_train.sh work_dirs/full/scale/configs/asvit-3.8m-634mf_8xb128_in1k.py 8

_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py',
    'mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py',
    'mmpretrain::_base_/default_runtime.py',
]

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='asvit_mm.AsViT',
        arch='8,2,3,1|4,4,4,1|4,1,6,1|4,1,2,2|16,40',
        img_size=224,
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='VisionTransformerClsHead',
        num_classes=1000,
        in_channels=320,
        hidden_dim=320,
        act_cfg=dict(type='Tanh'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)

# ImageNet-1k at 224 x 224 with RandAugment and random erasing, as mmpretrain trains Swin.
train_dataloader = dict(batch_size=128)

# 300 epochs of AdamW, 20 of them warm-up, cosine; weight decay 0.05, none for norms, biases and
# the position embedding.
optim_wrapper = dict(
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(custom_keys={'.pos_embed': dict(decay_mult=0.0)}),
)
