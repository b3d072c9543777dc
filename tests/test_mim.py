"""mim's commands as users type them: from a wheel in an environment of its own, weights from a real server.

The environment has the wheel alone; what the wheel depends on is looked up in this one.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from asvit_mm.checkpoints.hosting import SHIPPED, WEIGHTS_URL

from .pages import ROOT, commands
from .serving import served
from .wheels import make_environment, run

pytestmark = pytest.mark.slow

CONFIG = 'asvit-3.0m-10mf_b64-progressive_digits'
DETECTOR = 'mask-rcnn_asvit-3.0m-10mf_fpn_12e_scenes'


class User:
    """Somebody with a fresh environment and an empty folder."""

    def __init__(self, python: Path, folder: Path, host: Path, address: str) -> None:
        self.python, self.folder, self.host, self.address = python, folder, host, address
        self.environment = {
            **{key: value for key, value in os.environ.items() if key != 'PYTHONPATH'},
            'OMP_NUM_THREADS': '1',
            'HOME': str(folder),
            'TORCH_HOME': str(folder / 'torch'),
            'COLUMNS': '200',
        }

    def python_with(self, *words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.python), *map(str, words)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
        )

    def types(self, *command: object) -> subprocess.CompletedProcess[str]:
        """``python -m COMMAND``; ``mim`` is a script of the module ``mim``."""
        return self.python_with('-m', *command)

    def succeeds(self, *command: object) -> str:
        done = self.types(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def runs(self, code: str) -> str:
        done = self.python_with('-c', code)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope='module')
def user(wheels, tmp_path_factory):
    root = tmp_path_factory.mktemp('mim')
    home, host = root / 'home', root / 'host'
    home.mkdir()
    shutil.copytree(SHIPPED, host)
    python, packages = make_environment(root / 'environment')
    (wheel,) = (wheels / 'second').glob('*.whl')
    pip = [sys.executable, '-m', 'pip', '--python', str(python), 'install', '--no-index']
    run([*pip, '--no-deps', str(wheel)], cwd=root)
    # Published files, but not in this copy of the package: they have to be downloaded.
    shutil.rmtree(packages / 'asvit_mm/weights')
    with served(host) as address:
        # The one setting, and the metafiles that follow from it.
        setting = packages / 'asvit_mm/checkpoints/hosting.py'
        for path in (setting, *packages.glob('asvit_m*/.mim/configs/*/metafile.yml')):
            text = path.read_text()
            assert WEIGHTS_URL in text or path.parent.name in (
                'asvit',
                'searched',
                'coco',
                'ade20k',
                'dota',
            )
            path.write_text(text.replace(WEIGHTS_URL, address))
        found = User(python, home, host, address)
        where = found.runs('import asvit_mm; print(asvit_mm.__file__)')
        assert Path(where.strip()).is_relative_to(packages)
        yield found


def search(user, *options):
    """The fields of each model that is found; mim writes the models of each field."""
    user.succeeds('mim', 'search', 'asvit_mm', *options, '--json', 'found.json')
    columns = json.loads((user.folder / 'found.json').read_text())
    return {
        model: {field: values[model] for field, values in columns.items()}
        for model in columns['config']
    }


def test_search_by_model_data_condition_and_config(user):
    assert set(search(user, '--model', 'as-vit')) == {
        f'asvit-{size}_8xb128{part}_in1k'
        for size in ('small', 'base', 'large')
        for part in ('', '-progressive')
    }
    digits = search(user, '--dataset', 'scikit-learn digits')
    assert set(digits) == {CONFIG, 'asvit-seed_b64-progressive_digits'}
    assert digits[CONFIG]['weight'].startswith(f'{user.address}/{CONFIG}_')
    assert digits[CONFIG]['architecture_string'].endswith('|32,40')
    few = search(user, '--condition', 'parameters<2100000', '--sort', 'flops')
    assert CONFIG not in few
    assert all(model['parameters'] < 2100000 for model in few.values())


def test_the_documented_commands(user):
    """Those of docs/zoo.md, in order."""
    for command in commands(ROOT / 'docs/zoo.md'):
        words = shlex.split(command)
        if words[0] == 'mim':
            user.succeeds(*words)
        elif words[:2] == ['python', '-m']:
            user.succeeds(*words[2:])
    (weights,) = (user.folder / 'zoo').glob('*.pth')
    assert weights.read_bytes() == (user.host / weights.name).read_bytes()
    (log,) = user.folder.glob(f'work_dirs/{CONFIG}/*/*.log')
    metafile = yaml.safe_load((ROOT / 'configs/digits/metafile.yml').read_text())
    (model,) = (m for m in metafile['Models'] if m['Name'] == CONFIG)
    top1 = float(re.search(r'accuracy/top1: ([\d.]+)', log.read_text())[1])
    assert model['Results'][0]['Metrics']['Top 1 Accuracy'] == pytest.approx(top1, abs=0.3)
    assert (user.folder / 'run/last_checkpoint').is_file()
    configs = list((user.folder / 'family/configs').glob('asvit-*_digits.py'))
    assert configs
    # They train wherever the package's folders are.
    assert not any('site-packages' in path.read_text() for path in configs)


def test_a_damaged_download_is_caught_when_it_is_loaded(user):
    """mim fetches whatever there is; the tool that loads it looks at the hash."""
    (original,) = user.host.glob(f'{CONFIG}_*.pth')
    whole, dest = original.read_bytes(), 'damaged'
    damaged = whole[: len(whole) // 2]
    try:
        original.write_bytes(damaged)
        user.succeeds('mim', 'download', 'asvit_mm', '--config', CONFIG, '--dest', dest)
    finally:
        original.write_bytes(whole)
    user.succeeds('asvit_mm.data.image_sets')  # checked before the weights
    weights = user.folder / dest / original.name
    done = user.types(
        'mim', 'test', 'asvit_mm', f'{dest}/{CONFIG}.py', '--checkpoint', str(weights)
    )
    assert done.returncode != 0
    (line,) = [text for text in done.stderr.splitlines() if text.startswith('error: ')]
    assert 'is truncated or corrupted' in line
    assert 'download it again' in line


def test_other_libraries_download_by_name(user):
    code = f"""
import glob, asvit_mm.zoo, torch
from mmpretrain import get_model
model = get_model('{CONFIG}', pretrained=True)
weights = torch.load(glob.glob('torch/hub/checkpoints/{CONFIG}_*.pth')[0], weights_only=True)
assert all(torch.equal(v, weights['state_dict'][k].float()) for k, v in model.state_dict().items())
from mmdet.apis import DetInferencer
detector = DetInferencer(*asvit_mm.zoo.fetch('{DETECTOR}'), device='cpu')
from mmengine.config import Config
open('mine.py', 'w').write("_base_ = 'asvit_mm::digits/{CONFIG}.py'")
assert Config.fromfile('mine.py').model.head.in_channels == 320
"""
    user.runs(code)
    names = {path.name for path in (user.folder / 'torch/hub/checkpoints').glob('*.pth')}
    assert names == {p.name for p in SHIPPED.iterdir() if p.name.startswith((CONFIG, DETECTOR))}
