# The published seed on 5,000 images of MNIST, progressive tokenization; minutes on two cores.
# Data:      python -m asvit_mm.data.image_sets mnist5k
# Command:   python tools/train.py configs/mnist5k/asvit-seed_b64-progressive_mnist5k.py
# Cost:      2,071,466 parameters, 19.02 M multiply-adds per image of 56 x 56
# Measured:  as schedule 80-140 in docs/tokenization.md, three seeds
_base_ = [
    '../_base_/models/asvit/asvit-seed_digits.py',
    '../_base_/datasets/mnist5k_bs64_56.py',
    '../_base_/schedules/mnist5k_adamw_30e.py',
    'mmpretrain::_base_/default_runtime.py',
]

model = dict(backbone=dict(img_size=56))
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=5, max_keep_ckpts=1))
randomness = dict(seed=0)
