# As-ViT-Base on ImageNet-1k, 300 epochs on 8 GPUs.
# Command:   tools/dist_train.sh configs/asvit/asvit-base_8xb128_in1k.py 8
# Cost:      52,622,428 parameters, 8.75 G multiply-adds per image of 224 x 224
# Published: 82.5 top-1 (arXiv 2202.11921; not measured here)
_base_ = [
    '../_base_/models/asvit/asvit-base.py',
    '../_base_/datasets/imagenet_bs128_224.py',
    '../_base_/schedules/imagenet_bs1024_adamw_asvit.py',
    'mmpretrain::_base_/default_runtime.py',
]
