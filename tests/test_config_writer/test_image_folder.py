"""Recipes of image folders: chosen by the images, trained for any number of epochs."""

import itertools
import logging
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import HOOKS, DefaultScope
from mmpretrain.registry import DATASETS, MODELS
from PIL import Image

from asvit_mm.arch import as_architecture
from asvit_mm.config_writer import image_folder
from asvit_mm.config_writer.configs import config_text
from asvit_mm.config_writer.image_folder import plan_training
from asvit_mm.config_writer.recipes import RecipeOptions
from asvit_mm.data.source import describe_data
from asvit_mm.errors import InputError

TINY = as_architecture('4,2,2,1|2,1,2,1|2,1,2,1|2,1,2,2|16,12')
BIG = as_architecture('8,2,3,3|4,1,2,1|4,1,4,4|4,1,6,2|32,88')


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for name in 'ab':
            (tmp_path / 'pets' / split / name).mkdir(parents=True)
            for i in range(3):
                pixels = rng.integers(60, 100, (30, 40, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / 'pets' / split / name / f'{i}.png')
    return tmp_path / 'pets'


def written(folder, arch=TINY, img_size=None, **options):
    text = config_text(arch, describe_data(folder, img_size), options=RecipeOptions(**options))
    return text, Config.fromstring(text, '.py')


@pytest.mark.parametrize(
    ('images', 'size', 'epochs', 'expected'),
    [
        (50_000, 32, None, dict(epochs=100, batch_size=128, small=True, strong=True, mixing=False)),
        (50_000, 32, 8, dict(epochs=8, small=True, strong=False, mixing=False)),
        (50_000, 32, 200, dict(strong=True, mixing=True)),
        (9_469, 128, None, dict(epochs=300, batch_size=64, small=False, mixing=False)),
        (1_281_167, 224, None, dict(epochs=300, batch_size=128, mixing=True)),
        (300, 224, None, dict(epochs=300, batch_size=32, mixing=False)),
        (100_000, 224, None, dict(epochs=150, mixing=False)),
        (200_000, 224, None, dict(epochs=300, mixing=True)),
        (None, 224, None, dict(epochs=100, batch_size=64)),
    ],
)
def test_the_plan_follows_the_images_and_the_length(images, size, epochs, expected):
    plan = plan_training(size, images, 10, epochs=epochs)
    assert {name: getattr(plan, name) for name in expected} == expected


def test_a_few_more_images_change_the_epochs_little():
    chosen = [plan_training(32, images, 10).epochs for images in range(1_000, 300_000, 100)]
    assert max(abs(a - b) for a, b in itertools.pairwise(chosen)) <= 2
    assert (min(chosen), max(chosen)) == (100, 300)


def test_the_header_has_the_reasons(folder):
    text, cfg = written(folder, epochs=8)
    assert '# Recipe for 6 images of 32x32 pixels in 2 classes, 8 epochs:' in text
    assert 'small images' in text
    assert 'Mixup' in text
    assert cfg.randomness.seed == 0
    assert cfg.default_hooks.checkpoint.save_best == 'accuracy/top1'
    assert cfg.default_hooks.checkpoint.max_keep_ckpts == 1


def test_small_images_are_validated_as_they_are_and_large_ones_cropped(folder):
    steps = {step.type: step for step in written(folder)[1].test_pipeline}
    assert (steps['ResizeEdge'].scale, steps['CenterCrop'].crop_size) == (32, 32)
    steps = {step.type: step for step in written(folder, img_size=224)[1].test_pipeline}
    assert (steps['ResizeEdge'].scale, steps['CenterCrop'].crop_size) == (256, 224)


def test_long_runs_augment_and_short_ones_do_not(folder):
    kinds = {
        epochs: {step.type for step in written(folder, epochs=epochs)[1].train_pipeline}
        for epochs in (8, 60)
    }
    assert kinds[60] - kinds[8] == {'RandAugment', 'RandomErasing'}


def test_stochastic_depth_grows_with_the_run(folder):
    rates = [
        written(folder, BIG, epochs=e)[1].model.backbone.get('drop_path_rate') for e in (10, 50)
    ]
    assert rates == [0.02, 0.1]
    assert written(folder, BIG, epochs=300)[1].model.backbone.drop_path_rate == 0.2


def test_rates_are_in_proportion_to_the_batch(folder):
    rates = [written(folder, batch_size=b)[1].optim_wrapper.optimizer.lr for b in (16, 128)]
    assert rates == pytest.approx([1.25e-4, 1e-3])


def test_images_are_normalised_by_their_own_mean_or_that_of_the_weights(folder):
    own = written(folder)[1].data_preprocessor
    assert all(75 < value < 85 for value in own.mean)
    assert all(8 < value < 15 for value in own.std)
    given = written(folder, normalization=dict(mean=[1, 2, 3], std=[4, 5, 6]))[1]
    assert (given.data_preprocessor.mean, given.data_preprocessor.std) == ([1, 2, 3], [4, 5, 6])


def test_data_with_a_recipe_of_its_own_takes_no_length():
    with pytest.raises(InputError, match='recipe of its own'):
        config_text(TINY, describe_data('digits'), options=RecipeOptions(epochs=3))


@pytest.mark.parametrize(('epochs', 'size'), [(8, 32), (60, 32), (60, 96), (60, 224)])
def test_the_pipelines_give_images_of_the_training_size(folder, epochs, size):
    cfg = written(folder, img_size=size, epochs=epochs)[1]
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        for loader in (cfg.train_dataloader, cfg.val_dataloader):
            dataset = DATASETS.build(loader.dataset)
            assert {dataset[i]['inputs'].shape for i in range(6)} == {(3, size, size)}


def test_long_runs_on_many_images_mix_them_until_the_last_epochs(folder, monkeypatch):
    monkeypatch.setattr(image_folder, 'MIXING_IMAGES', 6)
    cfg = written(folder, epochs=200)[1]
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model | {'data_preprocessor': cfg.data_preprocessor})
    names = [type(augment).__name__ for augment in model.data_preprocessor.batch_augments.augments]
    assert names == ['Mixup', 'CutMix']
    hook = HOOKS.build(cfg.custom_hooks[1])
    for epoch, mixed in ((179, True), (180, False)):
        run = SimpleNamespace(model=model, epoch=epoch, max_epochs=200, logger=logging.getLogger())
        hook.before_train_epoch(run)
        assert (model.data_preprocessor.batch_augments is not None) == mixed
