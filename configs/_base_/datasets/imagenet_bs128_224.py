# ImageNet-1k at 224 x 224 with RandAugment and random erasing, as mmpretrain trains Swin.
_base_ = ['mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py']

train_dataloader = dict(batch_size=128)
