# A small Mask R-CNN with the network of configs/digits, on scenes of handwritten digits.
# Data:      python -m asvit_mm.data.scenes
# Command:   make demo-detection
# Cost:      4,050,116 parameters, 0.73 G multiply-adds per image of 128 x 128
# Measured:  61.1 box AP, 52.8 mask AP on the 120 held-out scenes (seed 0, stored weights)
_base_ = './mask-rcnn_asvit-seed_fpn_12e_scenes.py'

model = dict(
    backbone=dict(arch='6,2,6,2|4,1,3,1|4,1,5,1|3,1,6,1|32,40'),
    neck=dict(in_channels=[40, 80, 160, 320]),
)
