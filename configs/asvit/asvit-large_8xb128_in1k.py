# As-ViT-Large on ImageNet-1k, 300 epochs on 8 GPUs.
# Command:   tools/dist_train.sh configs/asvit/asvit-large_8xb128_in1k.py 8
# Cost:      88,145,300 parameters, 22.36 G multiply-adds per image of 224 x 224
# Published: 83.5 top-1 (arXiv 2202.11921; not measured here)
_base_ = [
    '../_base_/models/asvit/asvit-large.py',
    '../_base_/datasets/imagenet_bs128_224.py',
    '../_base_/schedules/imagenet_bs1024_adamw_asvit.py',
    'mmpretrain::_base_/default_runtime.py',
]
