# 300 epochs of AdamW, 20 of them warm-up, cosine; weight decay 0.05, none for norms, biases and
# the position embedding.
_base_ = ['mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py']

optim_wrapper = dict(
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(custom_keys={'.pos_embed': dict(decay_mult=0.0)}),
)
