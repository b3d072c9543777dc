"""mmseg's door: configs, counting, training, prediction; skipped where mmseg is not installed."""

import re

import numpy as np
import pytest
import timm
import torch
import yaml
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData
from PIL import Image

from asvit_mm import save_pretrained
from asvit_mm.analysis.flops import count_config, count_prediction
from asvit_mm.arch import as_architecture
from asvit_mm.data.scenes import CLASSES, write_scenes
from asvit_mm.engine.config import load_config
from asvit_mm.hub import AsViTForImageClassification

from .test_configs import ROOT, decayed_groups

pytest.importorskip('mmseg', reason="mmseg is not installed: pip install '.[segmentation]'")

from mmseg.apis import inference_model, init_model
from mmseg.structures import SegDataSample

SIZES = ('small', 'base', 'large')
FOLDER = ROOT / 'configs/ade20k'
SCENES = ROOT / 'configs/scenes/asvit-3.0m-10mf_upernet_b16-1600_scenes-64x64.py'


def leaf(size):
    return FOLDER / f'asvit-{size}_upernet_8xb2-160k_ade20k-512x512.py'


def small():
    """The smallest config with a tiny backbone and images of 64 pixels."""
    options = {
        'model.backbone.arch': 'seed',
        'model.backbone.window_size': (8, 8, 4, 2),
        'model.decode_head.in_channels': [32, 64, 128, 256],
        'model.decode_head.channels': 16,
        'model.auxiliary_head.in_channels': 128,
        'model.data_preprocessor.size': (64, 64),
        'test_pipeline.1.scale': (64, 64),
    }
    return load_config(leaf('small'), options)


def built(cfg):
    with DefaultScope.overwrite_default_scope('mmseg'):
        return MODELS.build(cfg.model)


@pytest.mark.parametrize('size', SIZES)
def test_configs_build_what_their_names_and_metafile_say(size):
    path = leaf(size)
    assert f'tools/dist_train.sh {path.relative_to(ROOT)} 8' in path.read_text()
    cfg = load_config(path)
    assert cfg.default_scope == 'mmseg'
    assert cfg.model.backbone.get('init_cfg') is None
    assert cfg.auto_scale_lr.base_batch_size == 8 * cfg.train_dataloader.batch_size
    arch = as_architecture(size)
    assert as_architecture(cfg.model.backbone.arch) == arch
    assert tuple(cfg.model.decode_head.in_channels) == arch.widths
    assert cfg.model.auxiliary_head.in_channels == arch.widths[2]
    with torch.device('meta'):
        model = built(cfg)
    entries = yaml.safe_load((FOLDER / 'metafile.yml').read_text())['Models']
    (entry,) = (entry for entry in entries if entry['Name'] == path.stem)
    params = sum(p.numel() for p in model.parameters())
    assert params == entry['Metadata']['Parameters']

    groups = decayed_groups(model, cfg.optim_wrapper)
    layers = sum(arch.depths) + 2
    assert groups['backbone.pos_embed']['lr'] == pytest.approx(1e-4 * 0.9 ** (layers - 1))
    assert all(g['lr'] == 1e-4 for name, g in groups.items() if not name.startswith('backbone.'))


def test_sizes_differ_in_the_backbone_alone():
    configs = [load_config(leaf(size)) for size in SIZES]
    for cfg in configs:
        cfg.model.backbone.update(arch=None, drop_path_rate=None)
        cfg.model.decode_head.in_channels = cfg.model.auxiliary_head.in_channels = None
    assert configs[0].to_dict() == configs[1].to_dict() == configs[2].to_dict()


@pytest.mark.slow
def test_costs_in_the_metafile_are_the_counted_ones():
    for path in (leaf('small'), SCENES):
        entries = yaml.safe_load(path.with_name('metafile.yml').read_text())['Models']
        (data,) = (entry['Metadata'] for entry in entries if entry['Name'] == path.stem)
        shape = tuple(map(int, data['Image Size'].split('x')))
        assert count_config(path, shape) == (data['Parameters'], data['FLOPs'])
    # Windows that do not tile a crop are padded.
    cfg = load_config(leaf('small'), {'model.backbone.window_size': (28, 28, 14, 7)})
    counts, _ = count_prediction(built(cfg).eval(), cfg, (512, 512))
    assert counts[''] == pytest.approx(249.4e9, abs=0.1e9)


def test_a_training_step_gives_every_parameter_a_gradient():
    cfg = small()
    torch.manual_seed(0)
    model = built(cfg)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, 150, (1, 64, 64))))
    batch = {
        'inputs': [torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8) for _ in range(2)],
        'data_samples': [sample, sample],
    }
    losses = model(**model.data_preprocessor(batch, training=True), mode='loss')
    # Fresh weights: near the loss of a uniform guess among 150 classes.
    assert losses['decode.loss_ce'].item() == pytest.approx(np.log(150), abs=1.0)
    wrapper.backward(model.parse_losses(losses)[0])
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    before = model.backbone.pos_embed.clone()
    wrapper.step()
    assert not torch.equal(before, model.backbone.pos_embed)


def test_a_photograph_is_segmented():
    from sklearn.datasets import load_sample_images

    photograph = np.ascontiguousarray(load_sample_images().images[0][::4, ::4, ::-1])
    model = init_model(small(), device='cpu')
    result = inference_model(model, photograph)
    labels = result.pred_sem_seg.data
    assert labels.shape == (1, *photograph.shape[:2])
    assert 0 <= labels.min() <= labels.max() < 150


@torch.no_grad()
def test_a_folder_of_a_segmentor_as_far_as_the_loaders_know_it(tmp_path):
    cfg = load_config(SCENES)
    model = init_model(cfg, device='cpu')
    model.dataset_meta = dict(classes=cfg.classes, palette=cfg.palette)  # as of a trained one
    folder = save_pretrained(model, tmp_path / 'scenes')
    again = init_model(str(folder / 'config.py'), str(folder / 'model.safetensors'), device='cpu')
    assert again.dataset_meta == dict(classes=list(cfg.classes), palette=cfg.palette)
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.state_dict().items())
    x = torch.randn(1, 3, 64, 96)
    last = model.eval().backbone(x)[-1]
    for opened in (
        timm.create_model(f'local-dir:{folder}', pretrained=True).eval(),
        AsViTForImageClassification.from_pretrained(folder),
    ):
        assert opened.num_classes == 0
        assert torch.equal(opened.forward_features(x), last)
    card = (folder / 'README.md').read_text()
    assert 'pipeline_tag: image-segmentation' in card
    assert 'from mmseg.apis import' in card


@pytest.mark.slow
def test_the_config_for_scenes_is_trained_tested_and_draws(here, tmp_path):
    write_scenes(tmp_path / 'data/scenes', train=4, val=2, size=64)
    cfg = load_config(SCENES)
    assert tuple(cfg.classes[1:]) == CLASSES
    options = [
        *('train_cfg.max_iters=12', 'train_cfg.val_interval=12', 'default_hooks.logger.interval=1'),
        *('train_dataloader.batch_size=2', 'param_scheduler.0.start_factor=1.0'),
        *('param_scheduler.1.end=99', 'default_hooks.checkpoint.interval=12'),
        *(f'{part}_dataloader.num_workers=0' for part in ('train', 'val', 'test')),
        'visualizer.name=segmented',
    ]
    here.run('train.py', SCENES, '--work-dir', 'run', '--cfg-options', *options)
    (log,) = (tmp_path / 'run').glob('*/*.log')
    assert 'mIoU: ' in log.read_text()
    losses = [float(x) for x in re.findall(r' loss: ([\d.]+)', log.read_text())]
    assert np.mean(losses[-3:]) < 0.98 * losses[0]
    out = ['--out', 'metrics.json', '--show-dir', 'pictures', '--work-dir', 'tested']
    options[-1] = 'visualizer.name=tested'
    here.run('test.py', SCENES, 'run/iter_12.pth', *out, '--cfg-options', *options)
    assert 'mIoU' in (tmp_path / 'metrics.json').read_text()
    pictures = sorted(tmp_path.glob('pictures/**/*.png'))
    assert len(pictures) == 2
    # Annotation and prediction, side by side.
    assert Image.open(pictures[0]).size == (128, 64)
