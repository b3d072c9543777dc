"""tools/train.py and tools/test.py as their users run them: train, resume, test, mistakes."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from asvit_mm.data.image_sets import DIGITS, write_image_set

from .runs import Here, tool

ROOT = Path(__file__).parents[2]
TINY = f"""
_base_ = ['{ROOT}/configs/digits/asvit-seed_b64-progressive_digits.py']
model = dict(backbone=dict(arch='4,2,2|2,1,2|2,1,2|2,1,2|16', img_size=16))
train_dataloader = dict(dataset=dict(indices=128), num_workers=0)
val_dataloader = dict(dataset=dict(indices=64), num_workers=0)
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=2, val_interval=1)
param_scheduler = []
default_hooks = dict(checkpoint=dict(interval=1))
custom_hooks = [
    dict(
        type='asvit_mm.ProgressiveTokenizationHook',
        phases=[dict(end=1, stride=8), dict(end=2, stride=4)],
    )
]
"""


@pytest.fixture(scope='module')
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_set(DIGITS, tmp_path_factory.mktemp('data') / 'digits').parent


@pytest.fixture
def here(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    digits: Path,
) -> Here:
    (tmp_path / 'data').symlink_to(digits)
    (tmp_path / 'tiny.py').write_text(TINY)
    return Here(monkeypatch, capsys, tmp_path)


@pytest.mark.slow
def test_train_resume_and_test(here: Here) -> None:
    """One epoch (without phases, whose ends are at two) in a process of its own, resumed to two."""
    options = ['--cfg-options', 'train_cfg.max_epochs=1', 'custom_hooks=[]']
    first = tool('train.py', 'tiny.py', *options, cwd=here.folder)
    assert first.returncode == 0, first.stderr[-2000:]
    work_dir = here.folder / 'work_dirs/tiny'
    assert (work_dir / 'last_checkpoint').read_text().endswith('epoch_1.pth')

    output = here.run('train.py', 'tiny.py', '--resume', '--auto-scale-lr')
    assert 'resumed epoch: 1' in output
    # Resumed in the second phase, so the first one is never entered.
    assert 'token stride 4, dilation 1 from epoch 2 to 2' in output
    assert 'token stride 8' not in output

    checkpoint = work_dir / 'epoch_2.pth'
    files = ['--out', 'metrics.json', '--work-dir', 'tested']
    output = here.run('test.py', 'tiny.py', checkpoint, *files)
    metrics = json.loads((here.folder / 'metrics.json').read_text())
    assert 0 <= metrics['accuracy/top1'] <= 100
    assert f'{metrics["accuracy/top1"]:.4f}' in output
    # What the training run measured at its end is what the test measures.
    scalars = max(work_dir.glob('*/vis_data/scalars.json'), key=str)
    lines = [json.loads(line) for line in scalars.read_text().splitlines()]
    measured = [line['accuracy/top1'] for line in lines if 'accuracy/top1' in line]
    assert measured[-1] == pytest.approx(metrics['accuracy/top1'])

    files = ['--out', 'pred.pkl', '--show-dir', 'pictures', '--interval', '32']
    here.run('test.py', 'tiny.py', checkpoint, *files, '--work-dir', 'pictured')
    assert len(pickle.loads((here.folder / 'pred.pkl').read_bytes())) == 64
    assert list(here.folder.rglob('pictures/**/*.png'))


def test_training_without_validation_and_mistakes_in_one_line(here: Here) -> None:
    options = ['--no-validate', '--cfg-options', 'train_cfg.max_epochs=3']
    assert here.refusal('train.py', 'tiny.py', *options) == (
        'error: progressive tokenization: the last phase ends at epoch 2 and the run has 3; '
        'make the two agree'
    )
    said = here.refusal('test.py', 'tiny.py', 'absent.pth')
    assert said.startswith("error: checkpoint 'absent.pth' does not exist")


@pytest.mark.parametrize('tool', ['train.py', 'test.py'])
def test_help_waits_for_nothing_heavy(tool: str, tmp_path: Path) -> None:
    script = (
        'import runpy, sys\n'
        f'sys.argv = [{tool!r}, "-h"]\n'
        'try:\n'
        f'    runpy.run_path({str(ROOT / "tools" / tool)!r}, run_name="__main__")\n'
        'except SystemExit as done:\n'
        '    assert done.code == 0\n'
        'assert not {"torch", "mmengine", "numpy"} & set(sys.modules)\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', script], capture_output=True, text=True, check=True
    )
    flags = ('--work-dir', '--amp', '--cfg-options', '--launcher')
    flags += ('--resume', '--no-validate', '--auto-scale-lr') if tool == 'train.py' else ('--out',)
    for flag in flags:
        assert flag in done.stdout


@pytest.mark.parametrize(
    'script', sorted((ROOT / 'tools').glob('*.sh')), ids=lambda path: path.name
)
def test_shell_scripts_parse_and_can_be_run(script: Path) -> None:
    subprocess.run(['bash', '-n', str(script)], check=True)
    assert script.stat().st_mode & 0o111
