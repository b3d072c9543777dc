# Searched on these images and scaled to at most 2.6 M parameters (README.md), at the full token grid.
# Data:      python -m asvit_mm.data.image_sets mnist5k
# Command:   python tools/train.py configs/mnist5k/asvit-2.6m-33mf_b64_mnist5k.py
# Cost:      2,592,694 parameters, 33.14 M multiply-adds per image of 56 x 56
# Measured:  98.1 top-1 on the 1,000 held-out images (seed 0, last epoch)
_base_ = './asvit-seed_b64-progressive_mnist5k.py'

model = dict(
    backbone=dict(arch='8,2,3,3|4,4,5,1|4,2,6,1|4,1,5,1|16,36'),
    head=dict(in_channels=288, hidden_dim=288),
)
custom_hooks = []
