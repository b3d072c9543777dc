# UPerNet with As-ViT-Base on ADE20K, 160,000 steps on 8 GPUs of 2 crops of 512 x 512.
# Command:   tools/dist_train.sh configs/ade20k/asvit-base_upernet_8xb2-160k_ade20k-512x512.py 8
_base_ = './asvit-small_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(arch='base', drop_path_rate=0.3),
    decode_head=dict(in_channels=[116, 232, 464, 928]),
    auxiliary_head=dict(in_channels=464),
)
