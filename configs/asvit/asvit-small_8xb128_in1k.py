# As-ViT-Small on ImageNet-1k, 300 epochs on 8 GPUs.
# Command:   tools/dist_train.sh configs/asvit/asvit-small_8xb128_in1k.py 8
# Cost:      29,051,296 parameters, 5.13 G multiply-adds per image of 224 x 224
# Published: 81.2 top-1 (arXiv 2202.11921; not measured here)
_base_ = [
    '../_base_/models/asvit/asvit-small.py',
    '../_base_/datasets/imagenet_bs128_224.py',
    '../_base_/schedules/imagenet_bs1024_adamw_asvit.py',
    'mmpretrain::_base_/default_runtime.py',
]
