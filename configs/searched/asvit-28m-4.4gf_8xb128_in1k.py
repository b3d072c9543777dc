# Searched and scaled here (docs/search.md), as many parameters as As-ViT-Small at most; the same recipe.
# Command:   tools/dist_train.sh configs/searched/asvit-28m-4.4gf_8xb128_in1k.py 8
# Cost:      28,232,212 parameters, 4.44 G multiply-adds per image of 224 x 224
# Measured:  nothing but its cost; it has not been trained
_base_ = '../asvit/asvit-small_8xb128_in1k.py'

model = dict(
    backbone=dict(arch='8,2,3,2|4,4,4,3|4,1,6,1|4,1,2,4|16,92'),
    head=dict(in_channels=736, hidden_dim=736),
)
