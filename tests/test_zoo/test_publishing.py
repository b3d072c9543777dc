"""Published files: what is in them, what they are called, and what is refused."""

from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from safetensors import safe_open
from torch import nn

from asvit_mm.checkpoints.hosting import PUBLISHED, WEIGHTS_URL, check_whole, sha256
from asvit_mm.checkpoints.reading import read_checkpoint
from asvit_mm.errors import InputError
from asvit_mm.zoo.publishing import metafile_of, publish, read_metafile, record

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/digits/asvit-seed_b64-progressive_digits.py'
META = {
    'epoch': 2,
    'iter': 46,
    'time': '20260102_030405',
    'cfg': 'secret = 1',
    'dataset_meta': {'classes': ('a', 'b')},
}


@pytest.fixture(scope='module')
def model() -> nn.Module:
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        torch.manual_seed(0)
        return MODELS.build(Config.fromfile(CONFIG).model)


@pytest.fixture
def checkpoint(model, tmp_path) -> str:
    path = tmp_path / 'epoch_2.pth'
    optimizer = torch.optim.AdamW(model.parameters())
    content = {'state_dict': model.state_dict(), 'optimizer': optimizer.state_dict(), 'meta': META}
    torch.save(content, path)
    return str(path)


def test_weights_alone_under_a_name_that_tells_them(checkpoint, model, tmp_path):
    path = publish(str(CONFIG), checkpoint, tmp_path / 'out')
    match = PUBLISHED.fullmatch(path.name)
    assert match.groups() == (CONFIG.stem, '20260102', sha256(path)[:8], 'pth')
    check_whole(path)
    content = torch.load(path, weights_only=True)
    assert content.keys() == {'meta', 'state_dict'}
    meta = content['meta']
    assert meta.keys() == {'config', 'asvit_mm_version', 'epoch', 'iter', 'dataset_meta'}
    assert meta['dataset_meta'] == {'classes': ['a', 'b']}
    for name, value in model.state_dict().items():
        assert torch.equal(content['state_dict'][name], value)
    again = publish(str(CONFIG), checkpoint, tmp_path / 'again')
    assert again.name == path.name
    assert again.read_bytes() == path.read_bytes()
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_half_precision_and_safetensors(checkpoint, model, tmp_path):
    whole = publish(str(CONFIG), checkpoint, tmp_path)
    path = publish(str(CONFIG), checkpoint, tmp_path, half=True, suffix='safetensors')
    assert path.suffix == '.safetensors'
    assert path.stat().st_size < 0.55 * whole.stat().st_size
    weights = read_checkpoint(str(path))['state_dict']
    for name, value in model.state_dict().items():
        assert torch.equal(weights[name], value.half())
    with safe_open(path, 'pt') as file:
        assert file.metadata()['config'] == CONFIG.stem


def test_averaged_or_trained_weights(model, tmp_path):
    """As MMEngine's EMAHook leaves them in a checkpoint: the averaged ones in the trained ones' place."""
    trained = {name: value.clone() for name, value in model.state_dict().items()}
    content = {
        'state_dict': dict(trained),
        'ema_state_dict': {f'module.{name}': value + 1 for name, value in trained.items()},
        'meta': META,
    }
    content['ema_state_dict']['steps'] = torch.tensor(3)
    EMAHook._swap_ema_state_dict(None, content)
    path = str(tmp_path / 'ema.pth')
    torch.save(content, path)
    name = next(iter(trained))
    for averaged, expected in ((True, trained[name] + 1), (False, trained[name])):
        found = torch.load(
            publish(str(CONFIG), path, tmp_path, averaged=averaged), weights_only=True
        )
        assert torch.equal(found['state_dict'][name], expected)
        assert found['state_dict'].keys() == trained.keys()


def refused(words, *args, **settings):
    with pytest.raises(InputError, match=words) as error:
        publish(*args, **settings)
    assert '\n' not in str(error.value)


def test_what_cannot_be_published(checkpoint, model, tmp_path):
    out = tmp_path / 'out'
    other = str(ROOT / 'configs/digits/asvit-3.0m-10mf_b64-progressive_digits.py')
    refused('does not fit the ImageClassifier', other, checkpoint, out)
    refused('without averaged weights', str(CONFIG), checkpoint, out, averaged=False)
    refused('no format', str(CONFIG), checkpoint, out, suffix='zip')
    refused('does not exist', str(CONFIG), 'absent.pth', out)
    refused('does not exist', 'absent.py', checkpoint, out)
    weights = model.state_dict()
    first = next(iter(weights))
    torch.save({'state_dict': {**weights, first: weights[first] + 1e6}}, tmp_path / 'large.pth')
    refused('half precision cannot hold', str(CONFIG), str(tmp_path / 'large.pth'), out, half=True)
    torch.save(
        {'state_dict': {k: v for k, v in weights.items() if k != first}}, tmp_path / 'part.pth'
    )
    refused(f'1 of its own are not there .{first}', str(CONFIG), str(tmp_path / 'part.pth'), out)
    for content in ({'model': weights}, {'state_dict': {'a': 1}}):
        torch.save(content, tmp_path / 'other.pth')
        refused('no state_dict of tensors', str(CONFIG), str(tmp_path / 'other.pth'), out)
    assert not out.exists()
    out.touch()
    refused('cannot be written to', str(CONFIG), checkpoint, out)


def test_an_entry_is_written_changed_and_its_published_results_kept(tmp_path):
    metafile, weights = tmp_path / 'metafile.yml', tmp_path / 'a_20260102-00000000.pth'
    weights.write_bytes(b'x')
    entry = record(metafile, 'configs/a.py', weights, None)
    assert entry['Name'] == 'a'
    assert entry['Weights'] == f'{WEIGHTS_URL}/{weights.name}'
    assert entry['Metadata']['Weights SHA-256'] == sha256(weights)
    assert 'Results' not in entry
    content = yaml.safe_load(metafile.read_text())
    published = {
        'Task': 'x',
        'Dataset': 'y',
        'Metrics': {'Published z': 1},
        'Source': 'published (p)',
    }
    content['Models'][0]['Results'] = [published]
    metafile.write_text(yaml.safe_dump(content))
    for top1 in (50.0, 62.51234):
        metrics = {'accuracy/top1': top1, 'time': 3.0}
        entry = record(metafile, 'configs/a.py', weights, metrics, 'digits')
    found = yaml.safe_load(metafile.read_text())
    assert len(found['Models']) == 1
    assert found['Models'][0] == entry
    assert entry['Results'][0] == published
    (measured,) = entry['Results'][1:]
    assert measured['Metrics'] == {'Top 1 Accuracy': 62.512}
    assert measured['Source'] == 'measured here'
    assert measured['Command'] == f'python tools/test.py configs/a.py {weights}'
    metrics = {'coco/bbox_mAP': 0.527, 'coco/segm_mAP_50': 0.66}
    entry = record(metafile, 'configs/a.py', weights, metrics, 'scenes', ['a.b=1', 'c=[1, 2]'])
    boxes, masks = entry['Results'][1:]
    assert boxes['Metrics'] == {'box AP': 52.7}
    assert masks['Metrics'] == {'mask AP50': 66.0}
    assert boxes['Command'].endswith(" --cfg-options a.b=1 'c=[1, 2]'")
    # Other weights, not measured: what was measured was not of them.
    assert record(metafile, 'configs/a.py', weights, None)['Results'] == [published]


@pytest.mark.parametrize(
    'text',
    [
        'Models: 3',
        '[]',
        'Models: [a]\nCollections: []',
        'Models: [{Name: a}, {Name: a}]\nCollections: []',
        'Models: []\nCollections: [{}]',
        '{',
    ],
)
def test_what_is_no_metafile(text, tmp_path):
    metafile = tmp_path / 'metafile.yml'
    metafile.write_text(text)
    with pytest.raises(InputError, match='is no metafile') as error:
        read_metafile(metafile)
    assert '\n' not in str(error.value)
    with pytest.raises(InputError, match='is no metafile'):
        read_metafile(tmp_path)


def test_the_metafile_of_a_config_is_the_zoos_or_the_one_beside_it(tmp_path):
    assert metafile_of(ROOT / 'configs/asvit_coco.py') == ROOT / 'configs/coco/metafile.yml'
    assert metafile_of(tmp_path / 'mine.py') == tmp_path / 'metafile.yml'
