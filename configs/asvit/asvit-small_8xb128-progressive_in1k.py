# As-ViT-Small on ImageNet-1k, 300 epochs on 8 GPUs, with progressive tokenization.
# Command:   tools/dist_train.sh configs/asvit/asvit-small_8xb128-progressive_in1k.py 8
# Cost:      29,051,296 parameters, 5.13 G multiply-adds per image of 224 x 224
#            41.2 % fewer of them in all 300 epochs (counted; published: 37.4 %)
# Published: 81.2 top-1 without progressive tokenization (arXiv 2202.11921; not measured here)
_base_ = [
    '../_base_/models/asvit/asvit-small.py',
    '../_base_/datasets/imagenet_bs128_224.py',
    '../_base_/schedules/imagenet_bs1024_adamw_asvit.py',
    '../_base_/schedules/progressive_80-140-300e.py',
    'mmpretrain::_base_/default_runtime.py',
]
