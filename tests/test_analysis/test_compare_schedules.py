"""What schedules save, and the summary of trainings that are made up."""

from pathlib import Path

import pytest

from asvit_mm.analysis.compare_schedules import saved_percent, summarise
from asvit_mm.analysis.plots import plot_schedules
from asvit_mm.analysis.settings import SchedulesSettings
from asvit_mm.arch import PRESETS
from asvit_mm.data.image_sets import DIGITS, write_image_set
from asvit_mm.data.source import describe_data
from asvit_mm.runs.training import training_config

from .pictures import is_picture


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    """The digits' folder, where configs expect it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp('digits'))
        write_image_set(DIGITS)
        yield


def test_images_are_as_large_as_a_configs_backbone_is_made_for(tmp_path):
    mnist = Path(__file__).parents[2] / 'configs/mnist5k/asvit-seed_b64-progressive_mnist5k.py'
    (tmp_path / 'data.py').write_text('data_preprocessor = dict(num_classes=3)')
    sizes = {str(mnist): 56, 'digits': 32, 'noise': 224, str(tmp_path / 'data.py'): 224}
    for data, size in sizes.items():
        assert SchedulesSettings(data=data).pixels == size
        assert SchedulesSettings(data=data, img_size=48).pixels == 48


def test_strides_are_times_the_backbones_own(digits):
    plain = training_config(PRESETS['seed'], describe_data('digits', 32), epochs=60)
    plain.model.backbone = dict(
        type='asvit_mm.TokenizedVisionTransformer', arch='small', img_size=128, patch_size=16
    )
    # 8 x 8 tokens, 4 x 4 in the middle phase, 2 x 2 in the first.
    assert 30 < saved_percent(plain, '80-140', 60) < 46.7


def test_a_dilation_changes_no_cost_and_is_checked(digits):
    plain = training_config(PRESETS['seed'], describe_data('digits', 64), epochs=30)
    expected = saved_percent(plain, '80-140', 30)
    assert saved_percent(plain, '16/1@8,8@14,4@30', 30) == pytest.approx(expected)


def record(schedule, seed, top1, seconds, saved):
    return {
        'schedule': schedule, 'seed': seed, 'top1': top1, 'seconds': seconds, 'saved': saved,
        'curve': [50.0, 90.0, 95.0, top1],
    }  # fmt: skip


def test_summary_and_picture(tmp_path):
    trainings = [
        record('full', 0, 90.0, 100.0, 0.0), record('80-140', 0, 89.0, 60.0, 40.0),
        record('full', 1, 92.0, 120.0, 0.0), record('80-140', 1, 93.0, 84.0, 40.0),
    ]  # fmt: skip
    full, phases = schedules = summarise(trainings)
    assert (full['top1'], full['difference']) == ([90, 92], [0, 0])
    assert (phases['difference'], phases['saved']) == ([-1, 1], 40)
    assert phases['time_saved'] == pytest.approx([40, 30])
    plot_schedules(schedules, trainings, tmp_path / 'curves.png')
    assert is_picture(tmp_path / 'curves.png')
