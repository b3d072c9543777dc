"""A folder of save_pretrained through every door: equal logits, equal preprocessing, strict loading."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import timm
import torch
import yaml
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmpretrain import get_model
from mmpretrain.registry import TRANSFORMS
from mmpretrain.structures import DataSample
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.data import create_transform, resolve_model_data_config

import asvit_mm
from asvit_mm import zoo
from asvit_mm.data.image_sets import DIGITS, write_image_set
from asvit_mm.errors import InputError
from asvit_mm.export.formats import FORMATS, deploy
from asvit_mm.hub import AsViTForImageClassification

from ..hub_server import served_hub

TRAINED = 'asvit-3.0m-10mf_b64-progressive_digits'
DETECTOR = 'mask-rcnn_asvit-3.0m-10mf_fpn_12e_scenes'
CLASSIFIERS = [model.name for model in zoo.index.models().values() if model.classifies]
NO_TRANSFORMERS = 'set ASVIT_MM_TRANSFORMERS=FOLDER after pip install --target FOLDER transformers'
SMALL = dict(arch='5,2,2,1|3,2,3,2|2,1,2,1|3,1,2,1|16,16', img_size=24, num_classes=3)


def scrambled(model):
    """The model with other weights than it began with, biases and norms included."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) / 30)
    return model.eval()


def images(model, count=2):
    shape = (count, *model.pretrained_cfg['input_size'])
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def difference(one, other):
    return float((one - other).abs().max())


@pytest.fixture(autouse=True)
def scope(monkeypatch):
    """As it was: mmdet leaves its own behind."""
    kept = DefaultScope._instance_dict.copy()
    monkeypatch.setattr(DefaultScope, '_instance_dict', kept)


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    return asvit_mm.save_pretrained(TRAINED, tmp_path_factory.mktemp('hub') / TRAINED)


@pytest.fixture(scope='module')
def transformers_door(tmp_path_factory):
    """Opens a folder in transformers, in a process of its own: logits of images, pixels of its pictures.

    ``import mmpretrain.models`` fails where transformers is installed: ASVIT_MM_TRANSFORMERS names a folder
    of its own. None where that is not set.
    """
    if 'ASVIT_MM_TRANSFORMERS' not in os.environ:
        yield None
        return
    code = """
import sys, torch, asvit_mm.timm
from pathlib import Path
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification
for line in sys.stdin:
    folder = Path(line.strip())
    model, info = AutoModelForImageClassification.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    with torch.no_grad():
        logits = model(torch.load(folder / 'images.pt')).logits
    process = AutoImageProcessor.from_pretrained(folder)
    files = sorted((folder / 'pictures').iterdir())
    pixels = [process(Image.open(file))['pixel_values'][0] for file in files]
    torch.save((logits, pixels), folder / 'found.pt')
    print('opened', flush=True)
"""
    command = dict(
        args=[sys.executable, '-c', code], env=elsewhere(tmp_path_factory.mktemp('home'))
    )
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with subprocess.Popen(**command, **pipes) as process:

        def open_folder(folder, x):
            torch.save(x, folder / 'images.pt')
            print(folder, file=process.stdin, flush=True)
            assert process.stdout.readline() == 'opened\n'
            return torch.load(folder / 'found.pt')

        yield open_folder
        process.stdin.close()


def assert_same_pixels(theirs, ours, folder):
    """What mmpretrain and timm read from files, of the network's size, small and large; returns it."""
    folder.mkdir()
    rng, transform = np.random.default_rng(0), create_transform(**resolve_model_data_config(ours))
    size = ours.pretrained_cfg['input_size'][1:]
    found = []
    for name, shape in {'a.png': size, 'b.png': (20, 31), 'c.jpg': (300, 401)}.items():
        Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8)).save(folder / name)
        found.append(transform(Image.open(folder / name)))
        assert difference(found[-1], prepared(theirs, folder / name)) <= 1e-6
    return found


def prepared(model, file):
    """An image as mmpretrain feeds it to a model that get_model returned."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        steps = Compose(
            [TRANSFORMS.build(s) for s in model._config.test_dataloader.dataset.pipeline]
        )
    packed = steps({'img_path': str(file)})
    data = {'inputs': packed['inputs'][None], 'data_samples': [DataSample()]}
    return model.data_preprocessor(data)['inputs'][0]


@pytest.mark.slow
@pytest.mark.parametrize('name', CLASSIFIERS)
@torch.no_grad()
def test_every_classifier_of_the_zoo_through_every_door(name, tmp_path, transformers_door):
    """Its output has the figures of docs/doors.md: ``-rP``."""
    if zoo.find(name).weights:
        reference = get_model(name, pretrained=True)
        folder = asvit_mm.save_pretrained(name, tmp_path / 'folder')
    else:
        reference = scrambled(get_model(name))
        folder = asvit_mm.save_pretrained(reference, tmp_path / 'folder')
    weights = folder / 'model.safetensors'
    opened = timm.create_model(f'local-dir:{folder}', pretrained=True).eval()
    x = images(opened)
    expected = reference(x)
    assert expected.std() > 1e-3
    assert difference(opened(x), expected) <= 1e-6
    assert difference(AsViTForImageClassification.from_pretrained(folder)(x), expected) <= 1e-6
    again = get_model(str(folder / 'config.py'), pretrained=str(weights))
    assert difference(again(x), expected) <= 1e-6
    classes = [list(model._dataset_meta.get('classes', ())) for model in (again, reference)]
    assert classes[0] == classes[1]
    # As a detector takes it, by the folder or by the file.
    init_cfg = dict(type='Pretrained', checkpoint=str(folder), prefix='backbone.')
    settings = {key: reference._config.model.backbone[key] for key in ('arch', 'img_size')}
    backbone = MODELS.build(dict(type='asvit_mm.AsViT', **settings, init_cfg=init_cfg))
    backbone.init_weights()
    assert difference(backbone.eval()(x)[0], reference.backbone(x)[0]) <= 1e-6

    pixels = assert_same_pixels(again, opened, folder / 'pictures')
    if transformers_door is not None:
        logits, theirs = transformers_door(folder, x)
        assert difference(logits, expected) <= 1e-6
        assert all(map(torch.equal, theirs, pixels))

    # The runtimes sum in other orders. A progressive config has another's network.
    if 'progressive_in1k' not in name:
        largest = float(expected.abs().max())
        print(f'{name}: logits of up to {largest:.2f}')
        found = {
            form: deploy(again, x, form)()[0]
            for form in ('onnx', 'openvino')
            if all(map(find_spec, FORMATS[form].packages))
        }
        exact = again.double()(x.double())
        for form, logits in {'eager': expected, **found}.items():
            apart = difference(logits, expected)
            print(f'{form}: {apart:.1e} from eager, {difference(logits, exact):.1e} from float64')
            assert apart <= 2e-6 * max(1.0, largest)
            if zoo.find(name).weights:
                assert apart <= 1e-6 * largest


def test_a_model_of_32_pixels_says_so(digits):
    model = timm.create_model(f'local-dir:{digits}', pretrained=True)
    data = resolve_model_data_config(model)
    assert tuple(data['input_size']) == (3, 32, 32)
    assert [round(255 * value, 4) for value in data['mean']] == [77.9] * 3
    assert [round(255 * value, 4) for value in data['std']] == [95.9] * 3
    assert model.pretrained_cfg['label_names'] == [str(digit) for digit in range(10)]


@pytest.mark.slow
@torch.no_grad()
def test_accuracy_through_timms_preprocessing(digits, tmp_path):
    """Files of 8 x 8 pixels, which Pillow and OpenCV enlarge differently."""
    write_image_set(DIGITS, tmp_path / 'digits')
    model = timm.create_model(f'local-dir:{digits}', pretrained=True).eval()
    transform = create_transform(**resolve_model_data_config(model))
    files = sorted((tmp_path / 'digits/val').rglob('*.png'))
    batch = torch.stack([transform(Image.open(file).convert('RGB')) for file in files])
    right = [int(file.parent.name) for file in files] == model(batch).argmax(1).numpy()
    assert right.mean() > 0.99


@torch.no_grad()
def test_the_files_and_the_card(digits):
    assert sorted(path.name for path in digits.iterdir()) == [
        'README.md', 'config.json', 'config.py', 'model.safetensors'
    ]  # fmt: skip
    _, head, body = (digits / 'README.md').read_text().split('---\n', 2)
    head = yaml.safe_load(head)
    assert head['license'] == 'apache-2.0'
    assert {'timm', 'transformers', 'asvit_mm'} <= set(head['tags'])
    (index,) = head['model-index']
    assert index['name'] == TRAINED
    assert index['results'][0]['metrics'][0]['value'] == pytest.approx(99.722)
    assert '2,958,290' in body
    cfg = Config.fromfile(digits / 'config.py')
    assert cfg.model == Config.fromfile(zoo.find(TRAINED).config).model
    assert {value.dtype for value in load_file(digits / 'model.safetensors').values()} == {
        torch.float32
    }


@torch.no_grad()
def test_models_of_timm_and_of_the_mixin_are_saved_alike(tmp_path):
    """A model that was built in timm gets a config of mmpretrain; what it says is what timm does."""
    cfg = dict(mean=(0.2, 0.3, 0.4), std=(0.5, 0.6, 0.7), crop_pct=0.8, interpolation='bilinear')
    model = scrambled(timm.create_model('asvit_seed', pretrained_cfg_overlay=cfg, **SMALL))
    first = asvit_mm.save_pretrained(model, tmp_path / 'first')
    mixin = AsViTForImageClassification.from_pretrained(first)
    mixin.save_pretrained(tmp_path / 'second')
    x = torch.randn(2, 3, 24, 24)
    for folder in (first, tmp_path / 'second'):
        opened = timm.create_model(f'local-dir:{folder}', pretrained=True).eval()
        theirs = get_model(str(folder / 'config.py'), pretrained=str(folder / 'model.safetensors'))
        assert difference(opened(x), model(x)) == 0
        assert difference(theirs(x), model(x)) <= 1e-6
        assert_same_pixels(theirs, opened, folder / 'pictures')
    assert (first / 'config.json').read_text() == (tmp_path / 'second/config.json').read_text()


@pytest.mark.parametrize('projection', ['dilate', 'resize'])
@torch.no_grad()
def test_the_token_grid_is_kept(projection, tmp_path):
    grid = dict(token_stride=8, token_projection=projection)
    model = scrambled(timm.create_model('asvit_seed', **SMALL, **grid))
    folder = asvit_mm.save_pretrained(model, tmp_path / 'first')
    theirs = get_model(str(folder / 'config.py'), pretrained=str(folder / 'model.safetensors'))
    again = asvit_mm.save_pretrained(theirs, tmp_path / 'second')
    x = torch.randn(2, 3, 24, 24)
    expected = model(x)
    assert difference(theirs(x), expected) <= 1e-6
    for path in (folder, again):
        opened = timm.create_model(f'local-dir:{path}', pretrained=True).eval()
        assert difference(opened(x), expected) == 0
        assert difference(AsViTForImageClassification.from_pretrained(path)(x), expected) == 0


@torch.no_grad()
def test_other_sizes_classes_and_features(digits):
    """What timm makes of a folder: the position embedding is resampled, a new classifier is drawn."""
    name, x = f'local-dir:{digits}', torch.randn(1, 3, 48, 48)
    plain = timm.create_model(name, pretrained=True).eval()
    larger = timm.create_model(name, pretrained=True, img_size=48).eval()
    assert larger(x).shape == (1, 10)
    assert timm.create_model(name, pretrained=True, num_classes=7)(x).shape == (1, 7)
    pooled = timm.create_model(name, pretrained=True, num_classes=0).eval()
    assert torch.equal(pooled.forward_features(x), plain.forward_features(x))
    maps = timm.create_model(name, pretrained=True, features_only=True).eval()(x)
    assert [one.shape[1] for one in maps] == [40, 80, 160, 320]


@pytest.mark.slow
@torch.no_grad()
def test_a_detector_as_far_as_the_loaders_know_it(tmp_path):
    pytest.importorskip('mmdet')
    from mmdet.apis import init_detector

    folder = asvit_mm.save_pretrained(DETECTOR, tmp_path / 'scenes')
    theirs = init_detector(*zoo.fetch(DETECTOR), device='cpu')
    again = init_detector(
        str(folder / 'config.py'), str(folder / 'model.safetensors'), device='cpu'
    )
    assert again.dataset_meta['classes'] == theirs.dataset_meta['classes']
    assert again.state_dict().keys() == theirs.state_dict().keys()
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in theirs.state_dict().items())
    x = torch.randn(2, 3, 96, 128)
    last = theirs.backbone(x)[-1]
    backbone = timm.create_model(f'local-dir:{folder}', pretrained=True).eval()
    assert torch.equal(backbone.forward_features(x), last)
    mixin = AsViTForImageClassification.from_pretrained(folder)
    assert torch.equal(mixin.forward_features(x), last)
    twice = asvit_mm.save_pretrained(again, tmp_path / 'again')
    assert (twice / 'config.json').read_text() == (folder / 'config.json').read_text()


def test_no_door_takes_weights_that_do_not_fit(digits, tmp_path):
    weights = load_file(digits / 'model.safetensors')
    for file in digits.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    del weights['backbone.stages.3.blocks.0.ffn.fc1.bias']
    save_file(weights, tmp_path / 'model.safetensors', {'format': 'pt'})
    with pytest.raises(RuntimeError, match='Missing key'):
        timm.create_model(f'local-dir:{tmp_path}', pretrained=True)
    with pytest.raises(InputError, match='1 of its own are not there'):
        AsViTForImageClassification.from_pretrained(tmp_path)
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path), prefix='backbone.')
    arch = zoo.find(TRAINED).metadata['Architecture String']
    with pytest.raises(InputError, match='1 of its own are not there'):
        MODELS.build(dict(type='asvit_mm.AsViT', arch=arch, init_cfg=init_cfg)).init_weights()


def test_what_cannot_be_saved_is_refused_in_one_line(tmp_path):
    with pytest.raises(InputError, match="the zoo has no 'asvit-huge'"):
        asvit_mm.save_pretrained('asvit-huge', tmp_path / 'x')
    with pytest.raises(InputError, match='has no weights yet'):
        asvit_mm.save_pretrained('asvit-small_8xb128_in1k', tmp_path / 'x')
    with pytest.raises(InputError, match='Linear does not know its config'):
        asvit_mm.save_pretrained(torch.nn.Linear(2, 2), tmp_path / 'x')
    model = get_model(TRAINED)
    for option, words in (
        ({'model.backbone.merge_rounding': 'down'}, "no setting 'merge_rounding'"),
        ({'model.head.type': 'LinearClsHead'}, 'not LinearClsHead'),
        ({'data_preprocessor.to_rgb': False}, 'are BGR'),
        ({'model.backbone.type': 'SwinTransformer'}, 'not SwinTransformer'),
        # timm resizes before it crops.
        (
            {'test_dataloader.dataset.pipeline': [dict(type='CenterCrop', crop_size=32)]},
            'no words for the test pipeline CenterCrop: use Resize',
        ),
    ):
        model._config = Config.fromfile(zoo.find(TRAINED).config)
        model._config.merge_from_dict(option)
        with pytest.raises(InputError, match=words) as error:
            asvit_mm.save_pretrained(model, tmp_path / 'x')
        assert '\n' not in str(error.value)
    model._config = Config.fromfile(zoo.find('asvit-seed_b64-progressive_mnist5k').config)
    model._config.model.backbone.arch = 'small'
    with pytest.raises(InputError, match='is not what timm builds'):
        asvit_mm.save_pretrained(model, tmp_path / 'x')
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match='cannot be written to'):
        asvit_mm.save_pretrained(TRAINED, tmp_path / 'file')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['file']


def test_a_folder_of_another_library_is_refused(tmp_path):
    (tmp_path / 'config.json').write_text(json.dumps({'hidden_size': 3}))
    with pytest.raises(InputError, match=r'no config\.json of'):
        AsViTForImageClassification.from_pretrained(tmp_path)


# ---- Names of the Hub, on a server here; transformers breaks mmpretrain's models and has a folder of its own


def elsewhere(home, **environment):
    """The variables of a process of its own, with the cache of the Hub in ``home``."""
    path = os.pathsep.join([*sys.path, os.environ.get('ASVIT_MM_TRANSFORMERS', '')])
    here = {**os.environ, 'HF_HOME': str(home), 'HF_HUB_DISABLE_XET': '1', 'PYTHONPATH': path}
    return {**here, **environment}


def run_elsewhere(code, home, **environment):
    """Run Python in a process of its own; what it printed."""
    done = subprocess.run(
        [sys.executable, '-c', code],
        env=elsewhere(home, **environment),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_names_of_the_hub(digits, tmp_path):
    code = """
import timm, torch, asvit_mm.timm
from asvit_mm.hub import AsViTForImageClassification
x = torch.ones(1, 3, 32, 32)
with torch.no_grad():
    one = timm.create_model('hf-hub:somebody/digits', pretrained=True).eval()
    other = AsViTForImageClassification.from_pretrained('somebody/digits')
    print(one(x).tolist() == other(x).tolist(), one(x).argmax().item())
"""
    opened = timm.create_model(f'local-dir:{digits}', pretrained=True).eval()
    expected = opened(torch.ones(1, 3, 32, 32)).argmax().item()
    with served_hub({'somebody/digits': digits}) as address:
        printed = run_elsewhere(code, tmp_path, HF_ENDPOINT=address)
    assert printed.splitlines()[-1] == f'True {expected}'


@pytest.mark.slow
@pytest.mark.skipif('ASVIT_MM_TRANSFORMERS' not in os.environ, reason=NO_TRANSFORMERS)
def test_names_of_the_hub_in_transformers(digits, tmp_path):
    code = """
import torch, asvit_mm.timm
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification
model = AutoModelForImageClassification.from_pretrained('somebody/digits')
image = Image.new('RGB', (32, 32), 'white')
pixels = AutoImageProcessor.from_pretrained('somebody/digits')(image)['pixel_values']
print(tuple(pixels.shape), model.config.id2label[model(pixels).logits.argmax().item()])
"""
    opened = timm.create_model(f'local-dir:{digits}', pretrained=True).eval()
    transform = create_transform(**resolve_model_data_config(opened))
    expected = opened(transform(Image.new('RGB', (32, 32), 'white'))[None]).argmax().item()
    with served_hub({'somebody/digits': digits}) as address:
        printed = run_elsewhere(code, tmp_path, HF_ENDPOINT=address)
    assert printed.splitlines()[-1] == f'(1, 3, 32, 32) {expected}'


def test_the_import_needs_no_model_of_mmpretrain(tmp_path):
    code = 'import sys, asvit_mm.hub; print("mmpretrain.models" in sys.modules)'
    assert run_elsewhere(code, tmp_path).strip() == 'False'
