# 30 epochs, 2 of them warm-up; in three phases of tokens, with the ends of the published 80-140 of 300.
_base_ = './digits_adamw_60e.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, end=2, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=2, end=30, eta_min=1e-6, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=30, val_interval=5)
custom_hooks = [
    dict(
        type='asvit_mm.ProgressiveTokenizationHook',
        phases=[dict(end=8, stride=16), dict(end=14, stride=8), dict(end=30, stride=4)],
    )
]
