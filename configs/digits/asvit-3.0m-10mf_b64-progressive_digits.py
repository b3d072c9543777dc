# Searched and scaled on scikit-learn's digits by an earlier `make demo`; minutes on two cores.
# Data:      python -m asvit_mm.data.image_sets
# Command:   python tools/train.py configs/digits/asvit-3.0m-10mf_b64-progressive_digits.py
# Cost:      2,958,290 parameters, 10.06 M multiply-adds per image of 32 x 32
# Measured:  99.72 top-1 on the 360 held-out images (seed 0, last epoch)
_base_ = './asvit-seed_b64-progressive_digits.py'

model = dict(
    backbone=dict(arch='6,2,6,2|4,1,3,1|4,1,5,1|3,1,6,1|32,40'),
    head=dict(in_channels=320, hidden_dim=320),
)
