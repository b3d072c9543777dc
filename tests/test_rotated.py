"""mmrotate's door: Oriented R-CNN builds, trains a step and predicts; skipped where it is not installed."""

import numpy as np
import pytest
import torch
import yaml
from mmdet.structures import DetDataSample
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData

from asvit_mm.arch import PRESETS
from asvit_mm.engine.config import load_config

from .test_configs import ROOT

pytest.importorskip('mmrotate', reason="mmrotate is not installed: pip install '.[rotated]'")

from mmrotate.structures import RotatedBoxes

LEAF = ROOT / 'configs/dota/oriented-rcnn-le90_asvit-s_fpn_1x_dota.py'


def built(cfg):
    with DefaultScope.overwrite_default_scope('mmrotate'):
        return MODELS.build(cfg.model)


def test_the_config_builds_what_its_metafile_says():
    cfg = load_config(LEAF)
    assert cfg.default_scope == 'mmrotate'
    assert str(LEAF.relative_to(ROOT)) in LEAF.read_text()
    assert tuple(cfg.model.neck.in_channels) == PRESETS['small'].widths
    assert cfg.auto_scale_lr.base_batch_size == cfg.train_dataloader.batch_size
    with torch.device('meta'):
        model = built(cfg)
    (entry,) = yaml.safe_load(LEAF.with_name('metafile.yml').read_text())['Models']
    assert sum(p.numel() for p in model.parameters()) == entry['Metadata']['Parameters']


@pytest.mark.slow
def test_a_training_step_and_a_prediction():
    options = {
        'model.backbone.arch': 'seed',
        'model.backbone.window_size': (8, 8, 4, 2),
        'model.neck.in_channels': [32, 64, 128, 256],
        'model.train_cfg.rpn_proposal.max_per_img': 20,
        'model.train_cfg.rcnn.sampler.num': 16,
        'model.test_cfg.rpn.max_per_img': 20,
        'model.test_cfg.rcnn.score_thr': 0.0,
        'model.test_cfg.rcnn.max_per_img': 5,
    }
    cfg = load_config(LEAF, options)
    torch.manual_seed(0)
    model = built(cfg)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    meta = dict(img_shape=(64, 64), ori_shape=(64, 64), scale_factor=(1.0, 1.0))
    boxes = RotatedBoxes(torch.tensor([[32.0, 30.0, 24.0, 12.0, 0.4]]))
    sample = DetDataSample(
        metainfo=meta, gt_instances=InstanceData(bboxes=boxes, labels=torch.tensor([2]))
    )
    sample.ignored_instances = InstanceData(
        bboxes=RotatedBoxes(torch.zeros(0, 5)), labels=torch.zeros(0, dtype=torch.long)
    )
    image = np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    batch = {'inputs': [torch.from_numpy(image)], 'data_samples': [sample]}
    loss, _ = model.parse_losses(model(**model.data_preprocessor(batch, True), mode='loss'))
    assert torch.isfinite(loss)
    wrapper.backward(loss)
    assert [n for n, p in model.backbone.named_parameters() if p.grad is None] == []
    before = model.backbone.pos_embed.clone()
    wrapper.step()
    assert not torch.equal(before, model.backbone.pos_embed)
    (found,) = model.eval().test_step(batch)
    tensor = found.pred_instances.bboxes
    tensor = getattr(tensor, 'tensor', tensor)
    # Centre, width, height and angle of each.
    assert tensor.shape == (len(tensor), 5)
    assert 0 < len(tensor) <= 5
