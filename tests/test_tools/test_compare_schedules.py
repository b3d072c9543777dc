"""tools/analysis_tools/compare_schedules.py run as users do, on tiny images."""

import json
import re

import pytest

from asvit_mm.arch import as_architecture
from asvit_mm.cost import schedule_share

from .runs import Here, write_images

ARCH = '4,2,2|2,1,2|2,1,2|2,1,2|16'
TOOL = 'analysis_tools/compare_schedules.py'
STUDY = ['--data', 'images', '--img-size', '32', '--epochs', '4', '--seeds', '1', '--device', 'cpu']


@pytest.fixture
def here(monkeypatch, capsys, tmp_path):
    write_images(tmp_path)
    return Here(monkeypatch, capsys, tmp_path)


def records(work_dir):
    """Of each training, without the seconds."""
    found = {}
    for path in (work_dir / 'records').iterdir():
        record = json.loads(path.read_text())
        del record['seconds'], record['sha256']
        found[record['schedule'], record['seed']] = record
    return found


@pytest.mark.slow
def test_a_comparison_and_resumed(here):
    args = (ARCH, *STUDY, '--schedules', '80-140', '8*2@2,16|4@4')
    out = here.run(TOOL, *args, '--work-dir', 'run')
    assert '| 80-140 | ' in out
    found = records(here.folder / 'run')
    elastic = found.pop(('8*2@2,16|4@4', 0))
    assert list(elastic['at_strides']) == ['16']
    assert re.search(r'top-1 at stride 16 \|\n.*\n\| full .* \|  \|\n\| 80', out)
    assert set(found) == {('full', 0), ('80-140', 0)}
    assert all(len(one['curve']) == 4 for one in found.values())
    assert (here.folder / 'run' / 'curves.png').stat().st_size > 10_000
    # 4 * 80 / 300 and 4 * 140 / 300 epochs; the backbone has no head.
    share = schedule_share(as_architecture(ARCH), [(1, 16), (2, 8), (4, 4)], 32)
    for (schedule, seed), one in found.items():
        full = schedule == 'full'
        assert one['saved'] == (0 if full else pytest.approx(100 - 100 * share))
        log = (here.folder / 'run' / 'logs' / f'{schedule}-seed{seed}.log').read_text()
        assert ('token stride 16' in log) != full
    page = (here.folder / 'run' / 'report.md').read_text()
    assert f"tools/analysis_tools/compare_schedules.py '{ARCH}' --data images" in page
    assert ' --schedules 80-140 ' in page
    found['8*2@2,16|4@4', 0] = elastic

    (here.folder / 'run' / 'records' / 'full-seed0.json').unlink()
    assert 'resumed: 2 of 3' in here.run(TOOL, *args, '--work-dir', 'run', '--resume')
    assert records(here.folder / 'run') == found


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['tiny'], 'neither a preset'),
        (['--schedules', '60-90'], "no schedule is called '60-90'"),
        (['--epochs', '2'], 'lasts less than half an epoch in a run of 2: leave it out'),
        (['4,8,2|2,1,2|2,1,2|2,1,2|16'], 'phase 1: token stride 16 is too coarse for 32 pixels'),
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
        (['--epochs', '0'], '--epochs 0 is too small'),
    ],
)
def test_refusals(here, args, words):
    here.monkeypatch.delenv('RANK', raising=False)
    arch = [] if args[0] == 'tiny' or '|' in args[0] else [ARCH]
    line = here.refusal(TOOL, *arch, *STUDY, '--epochs', '30', *args)
    assert words in line
    assert not (here.folder / 'work_dirs').exists()
