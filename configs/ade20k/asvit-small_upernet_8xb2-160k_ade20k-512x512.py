# UPerNet with As-ViT-Small on ADE20K, 160,000 steps on 8 GPUs of 2 crops of 512 x 512.
# Command:   tools/dist_train.sh configs/ade20k/asvit-small_upernet_8xb2-160k_ade20k-512x512.py 8
# Heads, augmentation and schedule are those of mmseg's Swin, rates those of its ConvNeXt.
_base_ = 'mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='asvit_mm.AsViT',
        arch='small',
        out_indices=(0, 1, 2, 3),
        # They tile the 512 pixels of a crop.
        window_size=(32, 32, 16, 8),
        drop_path_rate=0.2,
        # The weights of the classifier, once it is trained:
        # init_cfg=dict(type='Pretrained', checkpoint='CHECKPOINT.pth', prefix='backbone.'),
    ),
    decode_head=dict(in_channels=[88, 176, 352, 704]),
    auxiliary_head=dict(in_channels=352),
)

# mmseg's constructor knows other backbones alone.
optim_wrapper = dict(
    optimizer=dict(lr=1e-4, weight_decay=0.05),
    constructor='asvit_mm.BackboneDecayConstructor',
    paramwise_cfg=dict(
        _delete_=True,
        layer_decay_rate=0.9,
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={'.pos_embed': dict(decay_mult=0.0)},
    ),
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
