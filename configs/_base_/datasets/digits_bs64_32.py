# The handwritten digits that scikit-learn ships, enlarged from 8 x 8 to 32 x 32 pixels: one token a
# pixel of theirs at token stride 4. Write the folder with `python -m asvit_mm.data.image_sets`.
data_preprocessor = dict(num_classes=10, mean=[77.9] * 3, std=[95.9] * 3, to_rgb=True)

affine = dict(magnitude_std='inf', pad_val=0, prob=0.8, interpolation='bilinear')
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(32, 32), interpolation='bicubic'),
    dict(type='Rotate', magnitude_range=(0, 15), **affine),
    dict(type='Shear', magnitude_range=(0, 0.2), **affine),
    dict(type='Translate', magnitude_range=(0, 0.125), direction='horizontal', **affine),
    dict(type='Translate', magnitude_range=(0, 0.125), direction='vertical', **affine),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(32, 32), interpolation='bicubic'),
    dict(type='PackInputs'),
]

data_root = 'data/digits'
train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    dataset=dict(
        type='CustomDataset', data_root=data_root, data_prefix='train', pipeline=train_pipeline
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=180,
    num_workers=1,
    dataset=dict(
        type='CustomDataset', data_root=data_root, data_prefix='val', pipeline=test_pipeline
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='Accuracy', topk=(1,))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
