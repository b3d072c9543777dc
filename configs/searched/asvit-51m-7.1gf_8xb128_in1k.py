# Searched and scaled here (docs/search.md), as many parameters as As-ViT-Base at most; the same recipe.
# Command:   tools/dist_train.sh configs/searched/asvit-51m-7.1gf_8xb128_in1k.py 8
# Cost:      51,416,492 parameters, 7.06 G multiply-adds per image of 224 x 224
# Measured:  nothing but its cost; it has not been trained
_base_ = '../asvit/asvit-base_8xb128_in1k.py'

model = dict(
    backbone=dict(arch='8,2,3,2|4,4,4,3|4,1,6,1|4,1,2,5|16,116'),
    head=dict(in_channels=928, hidden_dim=928),
)
