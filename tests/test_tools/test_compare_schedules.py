"""tools/analysis_tools/compare_schedules.py run as users do, on tiny images."""

import json
from pathlib import Path

import pytest
from mmengine.config import Config

from asvit_mm.analysis import training_config, with_validation
from asvit_mm.analysis.compare_schedules import SchedulesSettings, saved_percent, with_schedule
from asvit_mm.analysis.schedules import schedules_report, summarise_schedules
from asvit_mm.analysis.schedules_plots import plot_schedules
from asvit_mm.arch import PRESETS, as_architecture
from asvit_mm.cost import schedule_share
from asvit_mm.data.images.image_sets import DIGITS, write_image_set
from asvit_mm.data.images.source import describe_data

from ..test_report.test_plots import is_picture
from .runs import Here, ended, torchrun, write_images

ARCH = '4,2,2|2,1,2|2,1,2|2,1,2|16'
TOOL = 'analysis_tools/compare_schedules.py'
STUDY = ['--data', 'images', '--img-size', '32', '--epochs', '4', '--seeds', '2', '--device', 'cpu']


@pytest.fixture
def here(monkeypatch, capsys, tmp_path):
    write_images(tmp_path)
    return Here(monkeypatch, capsys, tmp_path)


def records(work_dir):
    """Of each training, without the seconds."""
    found = {}
    for path in sorted((work_dir / 'records').iterdir()):
        found[path.name] = json.loads(path.read_text())
        del found[path.name]['seconds']
    return found


@pytest.mark.slow
def test_alone_resumed_and_in_two_processes(here):
    args = (ARCH, *STUDY, '--schedules', '80-140')
    out = here.run(TOOL, *args, '--work-dir', 'run')
    assert '80-140   top-1 ' in out
    found = records(here.folder / 'run')
    assert [(one['schedule'], one['seed']) for one in found.values()] == [
        ('full', 0), ('80-140', 0), ('full', 1), ('80-140', 1),
    ]  # fmt: skip
    assert all(len(one['curve']) == 4 for one in found.values())
    assert is_picture(here.folder / 'run' / 'curves.png')
    # 4 * 80 / 300 and 4 * 140 / 300 epochs; the backbone has no head.
    share = schedule_share(as_architecture(ARCH), [(1, 16), (2, 8), (4, 4)], 32)
    saved = [one['saved'] for one in found.values()]
    assert saved == [0, pytest.approx(100 - 100 * share)] * 2
    assert 'token stride 16' in (here.folder / 'run' / 'logs' / '001.log').read_text()
    assert 'token stride' not in (here.folder / 'run' / 'logs' / '000.log').read_text()
    page = (here.folder / 'run' / 'report.md').read_text()
    assert (
        f"tools/analysis_tools/compare_schedules.py '{ARCH}' --work-dir run --schedules 80-140"
        in page
    )

    (here.folder / 'run' / 'records' / '002.json').unlink()
    assert 'resumed: 3 of 4' in here.run(TOOL, *args, '--work-dir', 'run', '--resume')
    assert records(here.folder / 'run') == found
    status, _, err = ended(torchrun(TOOL, *args, '--work-dir', 'two', cwd=here.folder))
    assert status == 0, err
    assert records(here.folder / 'two') == found


@pytest.fixture
def digits(tmp_path, monkeypatch):
    """The digits' folder, where configs expect it."""
    monkeypatch.chdir(tmp_path)
    write_image_set(DIGITS)


def test_the_config_of_a_training(digits):
    data = describe_data('digits', 32)
    plain = with_validation(training_config(PRESETS['seed'], data, epochs=60, seed=3))
    full, phases = (with_schedule(plain, name) for name in ('full', '40-70'))
    assert full.custom_hooks == []
    (hook,) = phases.custom_hooks
    assert (hook.type, hook.phases) == ('asvit_mm.ProgressiveTokenizationHook', '40-70')
    phases.custom_hooks = []
    assert Config(full.to_dict()).pretty_text == Config(phases.to_dict()).pretty_text
    assert full.randomness.seed == 3
    assert full.train_cfg.val_interval == 1


def record(schedule, seed, top1, seconds, saved):
    return {
        'schedule': schedule, 'seed': seed, 'trained': {'top1': top1}, 'seconds': seconds,
        'saved': saved, 'curve': [top1],
    }  # fmt: skip


def test_images_are_as_large_as_a_configs_backbone_is_made_for(tmp_path):
    mnist = Path(__file__).parents[2] / 'configs/mnist5k/asvit-seed_b64-progressive_mnist5k.py'
    (tmp_path / 'data.py').write_text('data_preprocessor = dict(num_classes=3)')
    sizes = {str(mnist): 56, 'digits': 32, 'noise': 224, str(tmp_path / 'data.py'): 224}
    for data, size in sizes.items():
        assert SchedulesSettings(work_dir='x', data=data).pixels == size
        assert SchedulesSettings(work_dir='x', data=data, img_size=48).pixels == 48


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
    assert with_schedule(plain, '16/1@8,8@14,4@30').custom_hooks[-1].phases == '16/1@8,8@14,4@30'


def test_summary():
    trainings = [
        record('full', 0, 90.0, 100.0, 0.0), record('80-140', 0, 89.0, 60.0, 40.0),
        record('full', 1, 92.0, 120.0, 0.0), record('80-140', 1, 93.0, 84.0, 40.0),
    ]  # fmt: skip
    settings = {'data': 'digits', 'img_size': 32, 'epochs': 60, 'seed': 0, 'seeds': 2, 'device': 'cpu',
                'threads': 1}  # fmt: skip
    study = {'settings': settings, 'architectures': [{'arch': 'a|b'}]}
    summary = summarise_schedules(study, trainings)
    full, phases = summary['schedules']
    assert full['top1'] == {'mean': 91, 'std': pytest.approx(2**0.5)}
    assert phases['difference'] == {'mean': 0, 'std': pytest.approx(2**0.5)}
    assert phases['time_saved']['mean'] == pytest.approx((40 + 30) / 2)
    page = schedules_report(summary, 'python', 'picture.png')
    assert (
        '| 80-140 | 91.00 ± 2.83 % | +0.00 ± 1.41 | 40.0 % | 37.4 % | 72 ± 17 | 35.0 ± 7.1 % |'
        in page
    )
    one = summarise_schedules({**study, 'settings': {**settings, 'seeds': 1}}, trainings[:2])
    page = schedules_report(one, '', 'picture.png')
    assert '| 80-140 | 89.00 % | -1.00 | 40.0 % | 37.4 % | 60 | 40.0 % |' in page


def test_picture(tmp_path):
    trainings = [
        {**record(schedule, seed, 99.0, 1.0, 0.0), 'curve': [50.0, 90.0, 99.0, 99.0 + seed]}
        for schedule in ('full', '80-140', '16@0.25,8@0.75,4@1.0')
        for seed in (0, 1)
    ]
    study = {'settings': {'epochs': 4}, 'architectures': []}
    path = plot_schedules(summarise_schedules(study, trainings), tmp_path / 'curves.png')
    assert is_picture(path)


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['tiny'], 'neither a preset'),
        (['--schedules', '60-90'], "no schedule is called '60-90'"),
        (['--epochs', '2'], 'lasts less than one epoch in a run of 2'),
        (['4,8,2|2,1,2|2,1,2|2,1,2|16'], 'schedule 40-70: token stride 16 is too coarse'),
        (['--cfg-options', 'x'], "'x' is not KEY=VALUE"),
        (['--cfg-options', 'train_cfg.max_epochs=3'], 'a study decides all but model, '),
        (['--cfg-options', 'randomness.seed=7'], 'see --epochs, --seed and --schedules'),
        (['--cfg-options', 'train_dataloader.dataset.data_root=lost'], "'lost' (train_dataloader"),
        (['--schedules', '4@0.5,4@1'], 'not both'),
        (['--cfg-options', 'model.backbone.merge_rounding=near'], "merge_rounding = 'near' is not"),
        (
            ['--cfg-options', 'model.backbone.nothing=1'],
            'the model of what is trained has no backbone that can be built',
        ),
        (['--seeds', '0'], '--seeds 0 is too small'),
        (['--epochs', '0'], '--epochs 0 is too small'),
        (['--data', 'noise'], "'noise' has no labels"),
        (['--launcher', 'pytorch'], 'without RANK in the environment'),
    ],
)
def test_refusals(here, args, words):
    here.monkeypatch.delenv('RANK', raising=False)
    arch = [] if args[0] == 'tiny' or '|' in args[0] else [ARCH]
    line = here.refusal(TOOL, *arch, *STUDY, '--epochs', '30', *args)
    assert words in line
    assert not (here.folder / 'work_dirs').exists()
