# 60 epochs of AdamW, 4 of them warm-up, cosine to zero; in three phases of tokens.
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05, betas=(0.9, 0.99)),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={'.pos_embed': dict(decay_mult=0.0)},
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, end=4, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=4, end=60, eta_min=1e-6, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=60, val_interval=5)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=64)
custom_hooks = [
    dict(
        type='asvit_mm.ProgressiveTokenizationHook',
        phases=[dict(end=8, stride=16), dict(end=18, stride=8), dict(end=60, stride=4)],
    )
]
