"""Detectron2's door: names, features, recipes, training and weights; skipped where it is not installed."""

import copy
import re

import numpy as np
import pytest
import torch
from PIL import Image

from asvit_mm.analysis.flops import count_multiply_adds
from asvit_mm.arch import as_architecture
from asvit_mm.data.scenes import CLASSES, write_scenes
from asvit_mm.errors import InputError
from asvit_mm.models import AsViT
from asvit_mm.zoo.converting import to_detectron2

from .test_configs import ROOT

pytest.importorskip('detectron2', reason='Detectron2 is not installed (it is on no package index)')

from detectron2 import model_zoo
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import LazyConfig, get_cfg, instantiate
from detectron2.data import MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator, inference_on_dataset
from detectron2.modeling import BACKBONE_REGISTRY, build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.analysis import FlopCountAnalysis
from detectron2.utils.events import EventStorage
from detectron2.utils.visualizer import Visualizer

from asvit_mm import detectron2 as door

ARCH = '5,2,2,1|3,2,3,2|2,1,2,1|3,1,2,1|16,16'
LEAVES = sorted((ROOT / 'configs/detectron2/COCO').glob('*.py'))
SIZES = {'s': 'small', 'b': 'base', 'l': 'large'}


def images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def sample(size=64):
    """An image with one instance, as Detectron2's data loaders give it."""
    masks = torch.zeros(1, size, size, dtype=torch.bool)
    masks[:, 8:40, 8:40] = True
    found = Instances((size, size))
    found.gt_boxes = Boxes(torch.tensor([[8.0, 8.0, 40.0, 40.0]]))
    found.gt_classes, found.gt_masks = torch.tensor([3]), BitMasks(masks)
    image = np.random.default_rng(0).integers(0, 256, (3, size, size), dtype=np.uint8)
    return {'image': torch.from_numpy(image), 'instances': found, 'height': size, 'width': size}


def small(path):
    """A recipe with a tiny backbone, small images and few regions."""
    cfg = LazyConfig.load(str(path))
    model = cfg.model
    model.backbone.bottom_up.update(arch=ARCH, window_size=(4, 4, 4, 2), drop_path_rate=0.0)
    model.backbone.square_pad = 64
    model.proposal_generator.update(pre_nms_topk=(40, 40), post_nms_topk=(20, 20))
    model.roi_heads.batch_size_per_image = 16
    return cfg


def test_the_maps_are_those_of_the_backbone_in_every_code_base():
    backbone = door.AsViTBackbone('small', drop_path_rate=0.2).eval()
    ours = AsViT('small', out_indices=(0, 1, 2, 3)).eval()
    ours.load_state_dict(backbone.state_dict())
    x = images(2, 3, 96, 128)
    with torch.no_grad():
        maps = backbone(x)
        for (name, found), expected in zip(maps.items(), ours(x), strict=True):
            assert torch.equal(found, expected), name
    shapes = backbone.output_shape()
    assert list(shapes) == list(maps) == ['res2', 'res3', 'res4', 'res5']
    for name, shape in shapes.items():
        assert maps[name].shape[1:] == (shape.channels, 96 // shape.stride, 128 // shape.stride)


def test_parts_of_the_maps_and_how_images_are_padded():
    backbone = door.AsViTBackbone(ARCH, out_features=['res3', 'res4'], square_pad=96)
    assert list(backbone(images(1, 3, 32, 32))) == ['res3', 'res4']
    assert backbone.padding_constraints == {'size_divisibility': 16, 'square_size': 96}
    for wrong in (dict(out_features=['p2']), dict(out_indices=(0,))):
        with pytest.raises(InputError, match='give some of res2, res3, res4, res5'):
            door.AsViTBackbone(ARCH, **wrong)


@pytest.mark.parametrize('builder', ['build_asvit_backbone', 'build_asvit_fpn_backbone'])
def test_yacs_configs_build_it_by_name(builder):
    cfg = get_cfg()
    door.add_asvit_config(cfg)
    cfg.merge_from_file(
        model_zoo.get_config_file('COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml')
    )
    cfg.MODEL.ASVIT.ARCH, cfg.MODEL.ASVIT.WINDOW_SIZE = ARCH, []
    cfg.MODEL.BACKBONE.NAME = builder
    assert cfg.INPUT.FORMAT == 'RGB'
    if builder == 'build_asvit_backbone':
        shape = door.ShapeSpec(channels=5)
        backbone = BACKBONE_REGISTRY.get(builder)(cfg, shape)
        assert backbone.in_channels == 5
        assert backbone.window_sizes == (None,) * 4
        return
    cfg.MODEL.DEVICE = 'cpu'
    model = build_model(cfg).eval()
    assert list(model.backbone.output_shape()) == ['p2', 'p3', 'p4', 'p5', 'p6']
    with torch.no_grad():
        (found,) = model([sample()])
    assert found['instances'].image_size == (64, 64)


def test_weights_of_a_classifier_are_loaded_at_once_or_refused(tmp_path):
    path = tmp_path / 'classifier.pth'
    classifier = AsViT(ARCH, img_size=32)
    torch.save(
        {'state_dict': {f'backbone.{k}': v for k, v in classifier.state_dict().items()}}, path
    )
    init_cfg = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
    backbone = door.AsViTBackbone(ARCH, 64, init_cfg=init_cfg)
    weight = backbone.stages[3].blocks[0].ffn.fc1.weight
    assert torch.equal(weight, classifier.stages[3].blocks[0].ffn.fc1.weight)
    assert backbone.pos_embed.shape[1:3] == (16, 16)
    with pytest.raises(InputError, match='does not fit'):
        door.AsViTBackbone('seed', init_cfg=init_cfg)


@pytest.mark.parametrize('path', LEAVES, ids=lambda path: path.stem)
def test_recipes(path):
    """What they build, and the decay of its rates and weights."""
    kind, letter = re.fullmatch(r'(|cascade_)mask_rcnn_asvit_([sbl])_36ep', path.stem).groups()
    cfg = LazyConfig.load(str(path))
    assert cfg.model.backbone.bottom_up.arch == SIZES[letter]
    assert cfg.dataloader.train.total_batch_size * cfg.train.max_iter == 36 * 118000
    with torch.device('meta'):
        cfg.optimizer.params.model = model = instantiate(cfg.model)
    assert type(model.roi_heads).__name__ == f'{"Cascade" if kind else "Standard"}ROIHeads'
    params = sum(p.numel() for p in model.parameters())
    card = (path.parents[1] / 'README.md').read_text()
    assert f'| [{path.stem}](COCO/{path.name}) | {params:,} |' in card
    optimizer = instantiate(cfg.optimizer)
    groups = {id(p): group for group in optimizer.param_groups for p in group['params']}
    layers = sum(as_architecture(SIZES[letter]).depths) + 2
    for name, parameter in model.named_parameters():
        group = groups[id(parameter)]
        positions = name == 'backbone.bottom_up.pos_embed'
        decays = parameter.ndim > 1 and not positions
        # Detectron2 takes its own LayerNorm of maps for no norm.
        if 'bottom_up' in name or not name.endswith('norm.weight'):
            assert group['weight_decay'] == (0.05 if decays else 0), name
        if positions or 'patch_embed' in name:
            assert group['lr'] == pytest.approx(2e-4 * 0.9 ** (layers - 1))
        if 'bottom_up' not in name:
            assert group['lr'] == 2e-4, name
    assert instantiate(cfg.lr_multiplier)(1.0 - 1e-9) == pytest.approx(0.01)


def test_decay_of_a_model_without_the_backbone():
    with pytest.raises(InputError, match='Linear has no AsViTBackbone'):
        door.get_asvit_optimizer_params(torch.nn.Linear(1, 1), 0.1)


@pytest.mark.slow
@pytest.mark.parametrize('path', [p for p in LEAVES if '_s_' in p.stem], ids=lambda p: p.stem)
def test_a_training_step_gives_every_parameter_a_gradient(path):
    cfg = small(path)
    torch.manual_seed(0)
    cfg.optimizer.params.model = model = instantiate(cfg.model)
    optimizer = instantiate(cfg.optimizer)
    with EventStorage():  # which the losses report to
        losses = model([sample(), sample()])
    loss = sum(losses.values())
    assert torch.isfinite(loss)
    loss.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    before = copy.deepcopy(model.backbone.bottom_up.pos_embed)
    optimizer.step()
    assert not torch.equal(before, model.backbone.bottom_up.pos_embed)
    with torch.no_grad():
        (found,) = model.eval()([sample()])
    assert found['instances'].pred_masks.shape[1:] == (64, 64)


@pytest.mark.parametrize('img_size', [None, 64])
def test_its_checkpointer_reads_what_the_converter_writes(tmp_path, img_size):
    source = AsViT(ARCH, img_size=32)
    path = tmp_path / 'run.pth'
    weights = {f'backbone.{name}': value for name, value in source.state_dict().items()}
    torch.save({'meta': {'epoch': 1}, 'state_dict': {**weights, 'head.w': torch.ones(1)}}, path)
    out = to_detectron2(path, tmp_path / 'd2.pth', ARCH, img_size=img_size)
    model = torch.nn.ModuleDict({'backbone': torch.nn.Module()})
    model['backbone'].bottom_up = backbone = door.AsViTBackbone(ARCH, img_size or 32)
    loaded = DetectionCheckpointer(model)._load_model(torch.load(out, weights_only=True))
    assert not loaded.unexpected_keys
    assert not loaded.incorrect_shapes
    assert {name.split('.')[2] for name in loaded.missing_keys} == {'norm0', 'norm1', 'norm2'}
    if img_size is None:
        x = images(1, 3, 32, 32)
        assert torch.equal(backbone.eval()(x)['res5'], source.eval()(x)[0])


@pytest.mark.slow
def test_its_evaluator_and_its_visualizer(tmp_path):
    root = write_scenes(tmp_path / 'scenes', train=1, val=2, size=64)
    name = f'scenes of {tmp_path}'
    folder = root / 'val2017'
    register_coco_instances(name, {}, str(root / 'annotations/instances_val2017.json'), str(folder))
    cfg = small(LEAVES[-1])
    cfg.model.roi_heads.update(num_classes=len(CLASSES))
    cfg.model.roi_heads.box_predictor.test_score_thresh = 0.0
    test = cfg.dataloader.test
    test.dataset.names, test.num_workers = name, 0
    test.mapper.augmentations[0].update(short_edge_length=64, max_size=64)
    torch.manual_seed(0)
    model = instantiate(cfg.model).eval()
    evaluator = COCOEvaluator(name, output_dir=str(tmp_path / 'out'))
    found = inference_on_dataset(model, instantiate(test), evaluator)
    assert {'AP', 'AP50', f'AP-{CLASSES[0]}'} <= set(found['bbox'])
    assert 0 <= found['segm']['AP'] < 10  # per cent, of random weights
    image = np.asarray(Image.open(folder / '000000.png'))
    with torch.no_grad():
        (predicted,) = model([{'image': torch.from_numpy(image.copy()).permute(2, 0, 1)}])
    drawn = Visualizer(image, MetadataCatalog.get(name)).draw_instance_predictions(
        predicted['instances'][:3]
    )
    assert (drawn.get_image() != image).any()


def test_its_counter_counts_attention():
    backbone = door.AsViTBackbone(ARCH, window_size=(4, 4, 4, 2)).eval()
    x = images(1, 3, 64, 64)
    counter = FlopCountAnalysis(backbone, (x,)).unsupported_ops_warnings(False)
    ours = AsViT(ARCH, out_indices=(0, 1, 2, 3), window_size=(4, 4, 4, 2)).eval()
    by_operator = counter.by_operator()
    counted = sum(by_operator[name] for name in ('conv', 'linear', 'scaled_dot_product_attention'))
    assert counted == count_multiply_adds(ours, x)
