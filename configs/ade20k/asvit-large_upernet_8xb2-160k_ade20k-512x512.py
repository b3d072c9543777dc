# UPerNet with As-ViT-Large on ADE20K, 160,000 steps on 8 GPUs of 2 crops of 512 x 512.
# Command:   tools/dist_train.sh configs/ade20k/asvit-large_upernet_8xb2-160k_ade20k-512x512.py 8
_base_ = './asvit-small_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(arch='large', drop_path_rate=0.5),
    decode_head=dict(in_channels=[180, 360, 720, 1024]),
    auxiliary_head=dict(in_channels=720),
)
