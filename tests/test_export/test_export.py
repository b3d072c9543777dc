"""Exported files are read by others' runtimes here, and held against the model that they come from."""

import json
import sys

import onnx
import onnxruntime
import pytest
import torch

from asvit_mm.data.image_sets import DIGITS, write_image_set
from asvit_mm.engine.models import build_model, load_model_config
from asvit_mm.engine.options import parse_options
from asvit_mm.errors import InputError
from asvit_mm.export.export import run_export
from asvit_mm.export.formats import DESCRIPTION
from asvit_mm.export.settings import ExportSettings
from asvit_mm.zoo import fetch

from ..test_coco_configs import SCENES
from ..test_configs import ROOT

ARCH = '5,2,2,1|3,1,2,1|2,1,2,1|3,1,2,1|16,16'
CONFIG = f"""
default_scope = 'mmpretrain'
data_preprocessor = dict(mean=[120.0, 110.0, 100.0], std=[60.0, 50.0, 40.0], to_rgb=True)
model = dict(
    type='ImageClassifier',
    backbone=dict(type='asvit_mm.AsViT', arch='{ARCH}', img_size=32),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='VisionTransformerClsHead', num_classes=5, in_channels=128, hidden_dim=16),
)
"""
WINDOWS = ['model.backbone.window_size=(3,3,2,2)']


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder: a config, and a checkpoint with weights that no seed gives."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'small.py').write_text(CONFIG)
    torch.save({'state_dict': scrambled('small.py').state_dict()}, 'small.pth')
    return tmp_path


def scrambled(config, options=None):
    """The model of a config with weights away from what it is initialised with."""
    cfg = load_model_config(str(config), parse_options(options))
    model = build_model(cfg, str(config))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) / 20)
    return model


def export(config='small.py', checkpoint='small.pth', **settings):
    return run_export(ExportSettings(config, checkpoint, **settings))


def images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def run_onnx(path, x):
    """Outputs of a file by their names."""
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    names = [output.name for output in session.get_outputs()]
    return dict(
        zip(names, map(torch.from_numpy, session.run(None, {'images': x.numpy()})), strict=True)
    )


def dims(value):
    """The shape of an ONNX graph's input or output."""
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def written(folder):
    """What lies there beside what a test began with, hidden files included."""
    return sorted(p.name for p in folder.iterdir() if p.name not in ('small.py', 'small.pth'))


@pytest.mark.slow
@torch.no_grad()
def test_logits_in_onnx(folder, capsys):
    """Of raw pixels: the file flips channels and normalizes them as the config's preprocessor does."""
    options = ['data_preprocessor.to_rgb=False']
    result = export(batch_size=2, raw=True, cfg_options=options)
    assert written(folder) == ['small.onnx']
    model = scrambled('small.py')
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([120.0, 110, 100], [60.0, 50, 40]))
    for batch in (1, 2, 7):
        rgb = 255 * images(batch, 3, 32, 32).sigmoid()
        found = run_onnx('small.onnx', rgb)
        assert list(found) == ['logits']
        assert (found['logits'] - model((rgb.flip(1) - mean) / std)).abs().max() < 1e-5
        assert found['logits'].std() > 0.01
    content = onnx.load('small.onnx')
    assert dims(content.graph.input[0]) == ['batch', 3, 32, 32]
    props = {prop.key: prop.value for prop in content.metadata_props}
    assert props['asvit_mm.weights'] == 'small.pth'
    assert props['asvit_mm.mean'] == '(120.0, 110.0, 100.0)'
    assert props['asvit_mm.input'] == 'RGB pixels of 0 to 255, normalised inside'
    assert result['difference'] < 1e-5
    assert result['bytes'] == (folder / 'small.onnx').stat().st_size
    assert result['eager_ms'] > 0
    assert result['exported_ms'] > 0
    out = capsys.readouterr().out
    assert 'images (batch, 3, 32, 32) float32' in out
    assert 'logits (batch, 5) at 32x32' in out
    assert f'{result["difference"]:.1e} from eager torch' in out
    assert 'batch 2, 32x32' in out


@torch.no_grad()
def test_features_in_a_program_of_torch(folder):
    result = export(
        format='torch',
        output='features',
        size=(48, 40),
        out='deep/er/maps.pt2',
        cfg_options=['model.backbone.out_indices=(1,3)'],
    )
    model = scrambled('small.py').backbone
    extra = {DESCRIPTION: ''}
    program = torch.export.load('deep/er/maps.pt2', extra_files=extra).module()
    x = images(3, 3, 48, 40)
    found = program(x)
    assert [tuple(one.shape) for one in found] == [(3, 32, 6, 5), (3, 128, 2, 2)]
    torch.testing.assert_close(found[1], model(x)[0], rtol=0, atol=1e-5)
    # The classifier has no output norm of stage 2: it is a newly initialised one.
    torch.testing.assert_close(found[0].mean(1), torch.zeros(3, 6, 5), rtol=0, atol=1e-5)
    description = json.loads(extra[DESCRIPTION])
    assert description['outputs'] == [*result['outputs']] == ['stage2', 'stage4']
    assert 'mean 120 110 100, std 60 50 40' in description['input']


@pytest.mark.slow
@pytest.mark.parametrize('options', [[], WINDOWS], ids=['windows that grow', 'fixed windows'])
@torch.no_grad()
def test_any_size_of_a_step_in_onnx(folder, options):
    """Fixed windows do not tile the maps here: their padding follows the size."""
    export(output='features', dynamic_size=True, cfg_options=options)
    model = scrambled('small.py', options).backbone
    for height, width in ((32, 32), (32, 96), (160, 96), (224, 320)):
        x = images(2, 3, height, width)
        (found,) = run_onnx('small_features.onnx', x).values()
        (expected,) = model(x)
        assert found.shape == expected.shape == (2, 128, height // 32, width // 32)
        assert (found - expected).abs().max() < 1e-4
    with pytest.raises(Exception, match='broadcast'):
        run_onnx('small_features.onnx', images(1, 3, 40, 32))
    assert dims(onnx.load('small_features.onnx').graph.output[0]) == ['batch', 128, 'h', 'w']


@pytest.mark.slow
@torch.no_grad()
def test_any_size_of_a_step_in_a_program_of_torch(folder):
    export(format='torch', size=(64, 64), dynamic_size=True)
    program = torch.export.load('small.pt2').module()
    model = scrambled('small.py')
    for batch, height, width in ((1, 64, 64), (2, 160, 96), (3, 64, 224)):
        x = images(batch, 3, height, width)
        torch.testing.assert_close(program(x)[0], model(x), rtol=0, atol=1e-5)
    for height, width in ((32, 64), (70, 64)):
        with pytest.raises(Exception, match=r'images|Guard'):
            program(images(1, 3, height, width))


@pytest.mark.slow
@torch.no_grad()
def test_maps_of_a_detectors_backbone(folder):
    """The backbone's part of its checkpoint is read, and the fixed windows' masks are in the file."""
    detector = scrambled(SCENES)
    torch.save({'state_dict': detector.state_dict()}, 'detector.pth')
    export(str(SCENES), 'detector.pth', size=(64, 104), out='maps.onnx')
    x = images(3, 3, 64, 104)
    found = run_onnx('maps.onnx', x)
    assert list(found) == ['stage1', 'stage2', 'stage3', 'stage4']
    for one, expected in zip(found.values(), detector.backbone(x), strict=True):
        assert one.shape == expected.shape
        assert (one - expected).abs().max() < 1e-5


def test_a_file_that_does_not_agree_is_not_kept(folder):
    with pytest.raises(InputError, match='more than --tolerance 1e-30: nothing is written'):
        export(format='torch', tolerance=1e-30)
    assert written(folder) == []


def test_what_cannot_be_compared_is_not_kept(folder):
    """Weights that are no numbers; what was there before stays."""
    content = torch.load('small.pth')
    content['state_dict']['head.layers.head.bias'][2] = torch.nan
    torch.save(content, 'broken.pth')
    (folder / 'b.pt2').write_text('before')
    with pytest.raises(InputError, match='differ from eager torch by nan'):
        export(checkpoint='broken.pth', format='torch', out='b.pt2')
    assert written(folder) == ['b.pt2', 'broken.pth']
    assert (folder / 'b.pt2').read_text() == 'before'


@pytest.mark.slow
@torch.no_grad()
def test_eight_bits_beside_eager_torch_on_the_test_set(folder, capsys):
    """The model of the zoo; other pixels than the config's would give another accuracy."""
    write_image_set(DIGITS, 'data/digits')
    config, checkpoint = fetch('asvit-3.0m-10mf_b64-progressive_digits')
    loader = ['test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False']
    sizes = []
    for settings in (
        {'format': 'onnx-int8'},
        {'format': 'torch'},
        {'format': 'torch', 'raw': True},
    ):
        found = export(config, checkpoint, evaluate=True, cfg_options=loader, **settings)
        assert found['eager_top1'] == pytest.approx(99.722, abs=1e-3)
        assert found['top1'] == pytest.approx(99.722, abs=0.3)
        sizes.append(found['bytes'])
    assert sizes[0] < sizes[1] / 3
    assert 'asvit-3.0m-10mf_b64-progressive_digits_int8.onnx' in written(folder)
    assert 'eager torch 99.72 %, onnxruntime 99.' in capsys.readouterr().out


@pytest.mark.slow
@torch.no_grad()
def test_openvino_has_two_files(folder):
    openvino = pytest.importorskip('openvino')
    with pytest.raises(InputError, match='more than --tolerance 1e-30'):
        export(format='openvino', out='deep/small.xml', tolerance=1e-30)
    assert not (folder / 'deep').exists()
    result = export(format='openvino', out='deep/small.xml')
    assert sorted(p.name for p in (folder / 'deep').iterdir()) == ['small.bin', 'small.xml']
    assert result['bytes'] == sum(p.stat().st_size for p in (folder / 'deep').iterdir())
    model = openvino.Core().read_model('deep/small.xml')
    assert model.input('images').partial_shape.to_string() == '[?,3,32,32]'
    assert 'mean 120 110 100' in model.get_rt_info(['asvit_mm', 'input']).astype(str)
    x = images(3, 3, 32, 32)
    exact = {'INFERENCE_PRECISION_HINT': 'f32'}
    found = openvino.compile_model(model, 'CPU', exact)(x.numpy())['logits']
    assert (torch.from_numpy(found) - scrambled('small.py')(x)).abs().max() < 1e-5


def test_what_onnx_needs_is_named(folder, monkeypatch):
    """None in sys.modules hides a package that is there."""
    monkeypatch.setitem(sys.modules, 'onnxscript', None)
    with pytest.raises(InputError, match='needs onnxscript, not installed: pip install onnx '):
        export()


@pytest.mark.parametrize(
    ('settings', 'words'),
    [
        ({'checkpoint': 'lost.pth'}, "'lost.pth' does not exist"),
        ({'checkpoint': 'other.pth'}, 'does not fit the ImageClassifier of the config'),
        ({'checkpoint': 'other.pth', 'output': 'features'}, 'has no weights of a backbone'),
        ({'out': 'small.pt2'}, r'--format onnx is written to \*\.onnx'),
        ({'out': 'small.py/x.onnx'}, 'cannot be written'),
        ({'out': 'taken.onnx'}, 'cannot be written'),
        ({'size': (32, 32, 32)}, '--size'),
        ({'size': (0, 32)}, '--size'),
        ({'batch_size': 0}, '--batch-size'),
        (
            {'format': 'pt2'},
            "--format 'pt2' is not known: choose from onnx, onnx-int8, openvino, torch",
        ),
        ({'format': 'openvino', 'dynamic_size': True}, 'openvino'),
        ({'output': 'features', 'evaluate': True}, '--evaluate: only logits'),
        (
            {
                'checkpoint': None,
                'raw': True,
                'evaluate': True,
                'cfg_options': [
                    'model.backbone.in_channels=1',
                    'data_preprocessor.mean=[120]',
                    'data_preprocessor.std=[60]',
                ],
            },
            'images of 1 channels have no order',
        ),
        ({'evaluate': True}, 'has no .test_dataloader.'),
        ({'output': 'maps'}, "--output 'maps' is not known: choose from logits, features"),
        ({'tolerance': 0.0}, '--tolerance'),
        ({'tolerance': float('nan')}, '--tolerance'),
        ({'raw': True, 'cfg_options': ['data_preprocessor.mean=None']}, '--raw'),
        ({'cfg_options': ['model.head=None'], 'output': 'logits'}, '--output features'),
        ({'config': str(SCENES), 'output': 'logits'}, '--output features'),
        ({'config': str(SCENES)}, 'does not say how large images are'),
        ({'dynamic_size': True, 'size': (48, 32)}, 'multiples of 32 from 32 up, and 48x32 is not'),
        ({'dynamic_size': True, 'format': 'torch'}, 'from 64 up, and 32x32 is not'),
    ],
)
def test_refusals(folder, settings, words):
    torch.save({'state_dict': {'weight': torch.zeros(2)}}, 'other.pth')
    (folder / 'taken.onnx').mkdir()
    with pytest.raises(InputError, match=words) as error:
        export(**settings)
    assert '\n' not in str(error.value)
    assert written(folder) == ['other.pth', 'taken.onnx']
    assert not any((folder / 'taken.onnx').iterdir())


@pytest.mark.slow
@torch.no_grad()
def test_other_backbones_are_exported_at_one_size(folder):
    resnet = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'
    with pytest.raises(InputError, match='known for AsViT only, not ResNet'):
        export(resnet, None, size=(64, 64), dynamic_size=True)
    assert written(folder) == []
    detector = build_model(load_model_config(resnet), resnet)
    torch.save({'state_dict': detector.state_dict()}, 'resnet.pth')
    export(resnet, 'resnet.pth', size=(64, 96), out='resnet.onnx')
    x = images(3, 3, 64, 96)
    found = run_onnx('resnet.onnx', x)
    for one, expected in zip(found.values(), detector.backbone(x), strict=True):
        torch.testing.assert_close(one, expected, rtol=1e-4, atol=1e-4)


def test_what_torch_cannot_follow(folder):
    """mmdet's Swin Transformer makes the batch a number."""
    swin = str(ROOT / 'configs/scenes/mask-rcnn_swin-c40_fpn_12e_scenes.py')
    with pytest.raises(
        InputError, match=r'cannot follow the model of the config: .*batch'
    ) as error:
        export(swin, None, size=(64, 64))
    assert '\n' not in str(error.value)
    assert written(folder) == []
