"""Every shipped detection config: parsed, built, trained a step, evaluated; shrunk by options."""

import json
import re

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope

from asvit_mm.arch import as_architecture
from asvit_mm.cost import count_params
from asvit_mm.data.scenes import CLASSES, write_scenes

from .test_configs import ROOT, decayed_groups

LEAVES = [ROOT / 'configs/asvit_coco.py', *sorted((ROOT / 'configs/coco').glob('*.py'))]
SCENES = ROOT / 'configs/scenes/mask-rcnn_asvit-seed_fpn_12e_scenes.py'
NAME = re.compile(
    r'asvit_coco|(mask-rcnn|retinanet)_asvit-[sbl]_fpn_1x_coco'
    r'|cascade-mask-rcnn_asvit-[sbl]_fpn_4conv1fc-giou_amp-ms-crop-3x_coco'
)
SHAPE = '(64,64)'
NAMES = f'({",".join(CLASSES)})'
SMALL = [
    'default_hooks.checkpoint.interval=100',
    'default_hooks.checkpoint.save_last=False',
    'optim_wrapper.type=OptimWrapper',  # mixed precision needs a GPU
    'train_cfg.max_epochs=1',
    'train_cfg.val_interval=1',
    'randomness.seed=0',
]
TWO_STAGES = [
    'model.train_cfg.rpn_proposal.nms_pre=60',
    'model.train_cfg.rpn_proposal.max_per_img=20',
    'model.test_cfg.rpn.nms_pre=60',
    'model.test_cfg.rpn.max_per_img=20',
    'model.test_cfg.rcnn.score_thr=0.0',
    'model.test_cfg.rcnn.max_per_img=5',
]


@pytest.fixture(scope='module', params=LEAVES, ids=lambda path: path.stem)
def leaf(request):
    return request.param, Config.fromfile(request.param)


def built(cfg):
    """The detector, without memory for its weights."""
    with DefaultScope.overwrite_default_scope('mmdet'), torch.device('meta'):
        return MODELS.build(cfg.model)


def options(path, cfg, batch=2):
    """That make a run of the config small: scenes of 64 pixels, few proposals, no mixed precision."""
    found = list(SMALL)
    data = 'train_dataloader.dataset'
    if path.stem.startswith('cascade'):
        choice = f'{data}.pipeline.3.transforms'
        found += [
            f'{choice}.0.0.scales=[{SHAPE}]',
            f'{choice}.1.0.scales=[{SHAPE}]',
            f'{choice}.1.1.crop_size=(48,48)',
            f'{choice}.1.2.scales=[{SHAPE}]',
        ]
        found += [f'model.roi_head.bbox_head.{i}.norm_cfg.type=BN' for i in range(3)]
    elif path.stem == 'asvit_coco':
        data += '.dataset'
        found += [
            f'{data}.pipeline.2.scale={SHAPE}',
            f'{data}.pipeline.3.crop_size={SHAPE}',
            f'model.data_preprocessor.batch_augments.0.size={SHAPE}',
        ]
    else:
        found.append(f'{data}.pipeline.2.scale={SHAPE}')
    if path.stem.startswith('retinanet'):
        found.append(f'model.bbox_head.num_classes={len(CLASSES)}')
        found.append('model.test_cfg.score_thr=0.0')
    else:
        found += TWO_STAGES
        samplers = cfg.model.train_cfg.rcnn
        stages = [f'.{i}' for i in range(len(samplers))] if isinstance(samplers, list) else ['']
        for stage in stages:
            found.append(f'model.train_cfg.rcnn{stage}.sampler.num=16')
            found.append(f'model.roi_head.bbox_head{stage}.num_classes={len(CLASSES)}')
        masks = stages if isinstance(cfg.model.roi_head.mask_head, list) else ['']
        found += [f'model.roi_head.mask_head{s}.num_classes={len(CLASSES)}' for s in masks]
    found.append(f'{data}.metainfo.classes={NAMES}')
    for part in ('val', 'test'):
        found += [
            f'{part}_dataloader.dataset.pipeline.1.scale={SHAPE}',
            f'{part}_dataloader.dataset.metainfo.classes={NAMES}',
        ]
    for part in ('train', 'val', 'test'):
        found += [
            f'{part}_dataloader.num_workers=0',
            f'{part}_dataloader.persistent_workers=False',
        ]
    # One process runs them all, and MMEngine keeps one visualizer for every name.
    return [*found, f'train_dataloader.batch_size={batch}', f'visualizer.name={path.stem}']


def test_names_headers_and_bases(leaf):
    path, cfg = leaf
    assert NAME.fullmatch(path.stem)
    text = path.read_text()
    assert f'tools/dist_train.sh {path.relative_to(ROOT)} 8' in text
    assert cfg.default_scope == 'mmdet'
    assert cfg.load_from is None
    assert "checkpoint='" not in re.sub(r'^ *#.*$', '', text, flags=re.MULTILINE)
    assert cfg.model.backbone.get('init_cfg') is None
    # They tile the images: 1024 pixels, or the 1344 of COCO's long side.
    tiling = (32, 32, 16, 8) if path.stem == 'asvit_coco' else (28, 28, 14, 7)
    assert tuple(cfg.model.backbone.window_size) == tiling
    batch = cfg.train_dataloader.batch_size
    assert cfg.auto_scale_lr.base_batch_size == 8 * batch
    if path.stem == 'asvit_coco':
        assert cfg.train_cfg.max_epochs == 36 == cfg.param_scheduler[1].end
        assert cfg.train_dataloader.dataset.times == 1
        assert cfg.optim_wrapper.type == 'AmpOptimWrapper'


def test_models_have_the_counted_parameters_and_decay_none_of_norms_biases_and_positions(leaf):
    path, cfg = leaf
    model = built(cfg)
    arch = as_architecture(cfg.model.backbone.arch)
    size = {'s': 'small', 'b': 'base', 'l': 'large'}
    letter = re.search(r'asvit-([sbl])_', path.stem)
    assert arch == as_architecture(size[letter[1]] if letter else 'large')
    out = cfg.model.backbone.out_indices
    assert sum(p.numel() for p in model.backbone.parameters()) == count_params(arch, out_norms=out)
    assert list(cfg.model.neck.in_channels) == [arch.widths[i] for i in out]
    if path.stem == 'asvit_coco':
        params = sum(p.numel() for p in model.parameters())
        assert params == pytest.approx(139e6, rel=0.01)  # published
        assert f'{params:,} parameters' in path.read_text()

    # Mixed precision's wrapper needs a GPU; parameters are grouped alike.
    decayed_groups(model, {**cfg.optim_wrapper, 'type': 'OptimWrapper'})


SIZED = re.compile(r'asvit-[bl]_')


def test_sizes_of_a_detector_differ_in_the_backbone_alone():
    """So that a run of the smallest shows how all of them run."""
    larger = [path for path in LEAVES if SIZED.search(path.stem)]
    assert len(larger) == 4
    for path in larger:
        cfg = Config.fromfile(path)
        small = Config.fromfile(path.with_name(SIZED.sub('asvit-s_', path.name)))
        cfg.model.backbone.update(
            {key: small.model.backbone[key] for key in ('arch', 'drop_path_rate')}
        )
        cfg.model.neck.in_channels = small.model.neck.in_channels
        assert cfg.to_dict() == small.to_dict()


@pytest.mark.slow
@pytest.mark.parametrize(
    'path', [path for path in LEAVES if not SIZED.search(path.stem)], ids=lambda path: path.stem
)
def test_a_training_step_and_an_evaluation(path, here, tmp_path):
    cfg = Config.fromfile(path)
    write_scenes(tmp_path / 'data/coco', train=2, val=1, size=64)
    more = ['param_scheduler.0.start_factor=1.0', 'default_hooks.logger.interval=1']
    if path.stem == 'asvit_coco':
        more += ['model.backbone.arch=small', 'model.neck.in_channels=[88,176,352,704]']
    args = ['--work-dir', 'run', '--auto-scale-lr', '--cfg-options']
    here.run('train.py', path, *args, *options(path, cfg), *more)
    (log,) = (tmp_path / 'run').glob('*/*.log')
    text = log.read_text()
    assert 'coco/bbox_mAP_50: ' in text
    assert ('coco/segm_mAP_50: ' in text) is not path.stem.startswith('retinanet')
    (scalars,) = (tmp_path / 'run').glob('*/vis_data/scalars.json')
    assert 'nan' not in scalars.read_text().lower()
    if path.stem.startswith(
        'retinanet'
    ):  # the others' schedules are at their end in a run so short
        rate = cfg.optim_wrapper.optimizer.lr * 2 / cfg.auto_scale_lr.base_batch_size
        assert json.loads(scalars.read_text().splitlines()[0])['lr'] == pytest.approx(rate)


@pytest.mark.slow
def test_the_config_for_scenes_learns(here, tmp_path):
    write_scenes(tmp_path / 'data/scenes', train=4, val=1, size=64)
    cfg = Config.fromfile(SCENES)
    assert cfg.classes == CLASSES
    loaders = [
        f'{part}_dataloader.{setting}'
        for part in ('train', 'val', 'test')
        for setting in ('num_workers=0', 'persistent_workers=False')
    ]
    loaders.append(f'visualizer.name={SCENES.stem}')
    here.run(
        'train.py',
        SCENES,
        '--work-dir',
        'run',
        '--cfg-options',
        'train_cfg.max_epochs=6',
        'train_cfg.val_interval=6',
        'param_scheduler.0.end=5',
        'default_hooks.logger.interval=1',
        'model.train_cfg.rcnn.sampler.num=32',
        *TWO_STAGES,
        *loaders,
    )
    (scalars,) = (tmp_path / 'run').glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in scalars.read_text().splitlines()]
    losses = [line['loss'] for line in lines if 'loss' in line]
    assert losses[-1] < 0.8 * losses[0]
    assert 'coco/segm_mAP_50' in lines[-1]
