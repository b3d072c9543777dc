"""tools/model_converters/publish_model.py and tools/misc/update_zoo.py as users run them."""

import re
from pathlib import Path

import pytest
import timm
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

from asvit_mm.checkpoints.hosting import check_whole
from asvit_mm.data.image_sets import DIGITS, write_image_set

ROOT = Path(__file__).parents[2]
NAME = 'asvit-seed_b64-progressive_digits'


@pytest.fixture
def config(tmp_path):
    """A config of one's own over a shipped one, with a checkpoint of random weights."""
    path = tmp_path / 'configs' / f'{NAME}.py'
    path.parent.mkdir()
    path.write_text(f'_base_ = {str(ROOT / "configs/digits" / f"{NAME}.py")!r}\n')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(Config.fromfile(path).model)
    meta = {'time': '20260102_030405', 'dataset_meta': {'classes': list('0123456789')}}
    torch.save({'state_dict': model.state_dict(), 'meta': meta}, tmp_path / 'epoch_1.pth')
    return path


def test_published_and_recorded_beside_the_config(here, config, tmp_path):
    printed = here.run('model_converters/publish_model.py', config, 'epoch_1.pth', '--half')
    (weights,) = (tmp_path / 'weights').iterdir()
    check_whole(weights)
    assert f'written: weights/{weights.name}' in printed
    content = yaml.safe_load((config.parent / 'metafile.yml').read_text())
    (model,) = content['Models']
    assert model['Weights'].endswith(f'/{weights.name}')
    assert 'Results' not in model
    here.run(
        'model_converters/publish_model.py',
        config,
        'epoch_1.pth',
        '--format',
        'safetensors',
        '--no-metafile',
    )
    assert yaml.safe_load((config.parent / 'metafile.yml').read_text()) == content
    assert len(list((tmp_path / 'weights').glob('*.safetensors'))) == 1


@pytest.mark.slow
def test_evaluated_by_the_test_tool(here, config, tmp_path):
    write_image_set(DIGITS, 'data/digits')
    options = ['test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False']
    here.run(
        *('model_converters/publish_model.py', config, 'epoch_1.pth', '--evaluate', 'digits'),
        *('--metafile', 'mine.yml', '--cfg-options', *options),
    )
    (model,) = yaml.safe_load((tmp_path / 'mine.yml').read_text())['Models']
    (result,) = model['Results']
    (log,) = (tmp_path / f'work_dirs/{NAME}_published').glob('*/*.log')
    top1 = float(re.search(r'accuracy/top1: ([\d.]+)', log.read_text())[1])
    assert result['Metrics']['Top 1 Accuracy'] == pytest.approx(top1, abs=1e-3)
    assert result['Dataset'] == 'digits'
    assert result['Command'].endswith(f'--cfg-options {" ".join(options)}')


def test_refusals_are_one_line(here, config, tmp_path):
    assert 'does not exist' in here.refusal(
        'model_converters/publish_model.py', config, 'absent.pth'
    )
    line = here.refusal('model_converters/publish_model.py', config, 'epoch_1.pth', '--trained')
    assert 'without averaged weights' in line
    (tmp_path / 'bad.yml').write_text('[]')
    line = here.refusal(
        'model_converters/publish_model.py', config, 'epoch_1.pth', '--metafile', 'bad.yml'
    )
    assert 'is no metafile' in line
    assert not (tmp_path / 'weights').exists()


def test_a_stale_zoo_is_named(here):
    """The real pages, as if the weights were to move."""
    line = here.refusal(
        'misc/update_zoo.py', '--check', '--weights-url', 'https://elsewhere.invalid'
    )
    for name in ('asvit_mm/checkpoints/hosting.py', 'configs/digits/metafile.yml'):
        assert name in line.partition('stale: ')[2]
    assert 'is no base address' in here.refusal('misc/update_zoo.py', '--weights-url', 'here')


def test_a_folder_for_the_hub(here, config, tmp_path):
    """Of a checkpoint; nothing is recorded in a metafile."""
    arguments = (config, 'epoch_1.pth', '--format', 'hub', '--out-dir', 'hub')
    printed = here.run('model_converters/publish_model.py', *arguments)
    assert printed.splitlines()[-1] == f'written: hub/{NAME}'
    folder = tmp_path / 'hub' / NAME
    assert not (config.parent / 'metafile.yml').exists()
    model = timm.create_model(f'local-dir:{folder}', pretrained=True)
    weights = torch.load('epoch_1.pth')['state_dict']
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert model.pretrained_cfg['label_names'] == list('0123456789')
    # The head is initialised as the config says when somebody trains it again.
    assert Config.fromfile(folder / 'config.py').model == Config.fromfile(config).model


@pytest.mark.slow
def test_what_is_measured_stands_on_the_card(here, config, tmp_path):
    write_image_set(DIGITS, 'data/digits')
    options = ['test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False']
    arguments = (config, 'epoch_1.pth', '--format', 'hub', '--evaluate', 'digits')
    here.run('model_converters/publish_model.py', *arguments, '--cfg-options', *options)
    _, head, body = (tmp_path / f'weights/{NAME}/README.md').read_text().split('---\n', 2)
    (result,) = yaml.safe_load(head)['model-index'][0]['results']
    assert result['dataset']['name'] == 'digits'
    assert f'| Top 1 Accuracy, digits | {result["metrics"][0]["value"]:g} |' in body
