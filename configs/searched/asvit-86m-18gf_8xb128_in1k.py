# Searched and scaled here (docs/search.md), as many parameters as As-ViT-Large at most; the same recipe.
# Command:   tools/dist_train.sh configs/searched/asvit-86m-18gf_8xb128_in1k.py 8
# Cost:      85,760,672 parameters, 17.56 G multiply-adds per image of 224 x 224
# Measured:  nothing but its cost; it has not been trained
_base_ = '../asvit/asvit-large_8xb128_in1k.py'

model = dict(
    backbone=dict(arch='8,2,3,4|4,4,4,2|4,1,6,3|4,1,2,5|16,168'),
    head=dict(in_channels=1024, hidden_dim=1024),
)
