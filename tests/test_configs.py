"""Every shipped classification config: parsed, built, and its headers held to the truth."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.registry import HOOKS, MODELS
from mmpretrain.structures import DataSample
from torch import nn

from asvit_mm.arch import as_architecture
from asvit_mm.cost import count_macs, count_params
from asvit_mm.data.image_sets import IMAGE_SETS
from asvit_mm.token_schedule import phases_of_run, read_schedule

ROOT = Path(__file__).parents[1]
FOLDERS = [ROOT / 'configs' / name for name in ('asvit', 'searched', 'digits', 'mnist5k')]
LEAVES = [path for folder in FOLDERS for path in sorted(folder.glob('*.py'))]
METAFILES = [folder / 'metafile.yml' for folder in FOLDERS]
NAME = re.compile(
    r'asvit-(seed|small|base|large|[\d.]+m-[\d.]+[mg]f)_(\d+xb128|b64)(-progressive)?_(in1k|digits|mnist5k)'
)


@pytest.fixture(scope='module', params=LEAVES, ids=lambda path: path.stem)
def leaf(request: pytest.FixtureRequest) -> tuple[Path, Config]:
    return request.param, Config.fromfile(request.param)


def _figures(cfg: Config) -> tuple[int, int]:
    """Parameters and multiply-adds, in closed form."""
    backbone, classes = cfg.model.backbone, cfg.model.head.num_classes
    arch = as_architecture(backbone.arch)
    size = backbone.img_size
    return count_params(arch, classes, img_size=size), count_macs(arch, size, classes)


def decayed_groups(model: nn.Module, settings: Any) -> dict[str, dict[str, Any]]:
    """The optimizer's group of each parameter by its name.

    No decay for norms, biases and the position embedding; 0.05 for every matrix and kernel.
    """
    wrapper = build_optim_wrapper(model, settings)
    names = {id(p): name for name, p in model.named_parameters()}
    groups = {names[id(p)]: g for g in wrapper.optimizer.param_groups for p in g['params']}
    for name, parameter in model.named_parameters():
        decays = parameter.ndim > 1 and not name.endswith('pos_embed')
        assert groups[name]['weight_decay'] == (0.05 if decays else 0), name
    return groups


def test_all_sizes_have_a_plain_and_a_progressive_config() -> None:
    names = {path.stem for path in LEAVES}
    for size in ('small', 'base', 'large'):
        assert {f'asvit-{size}_8xb128_in1k', f'asvit-{size}_8xb128-progressive_in1k'} <= names


def test_leaves_are_data_with_a_header(leaf: tuple[Path, Config]) -> None:
    path, cfg = leaf
    assert NAME.fullmatch(path.stem)
    text = path.read_text()
    assert len(text.splitlines()) < 25
    assert f'configs/{path.parent.name}/{path.name}' in text
    params, macs = _figures(cfg)
    assert f'{params:,} parameters' in text
    assert f'{macs / 1e9:.2f} G' in text or f'{macs / 1e6:.2f} M' in text
    assert re.search(r'^# (Published|Measured): ', text, re.MULTILINE)


def test_models_build_without_weights_and_have_the_counted_parameters(
    leaf: tuple[Path, Config],
) -> None:
    _, cfg = leaf
    assert cfg.load_from is None
    assert 'Pretrained' not in cfg.pretty_text
    with DefaultScope.overwrite_default_scope('mmpretrain'), torch.device('meta'):
        model = MODELS.build(cfg.model)
    params, _ = _figures(cfg)
    assert sum(p.numel() for p in model.parameters()) == params

    decayed_groups(model, cfg.optim_wrapper)


def test_recipes_agree_with_themselves(leaf: tuple[Path, Config]) -> None:
    path, cfg = leaf
    epochs = cfg.train_cfg.max_epochs
    match = NAME.fullmatch(path.stem)
    gpus, _, batch = match[2].rpartition('b')
    assert cfg.train_dataloader.batch_size == int(batch)
    assert cfg.auto_scale_lr.base_batch_size == int(batch) * int(gpus.rstrip('x') or 1)
    hooks = [HOOKS.build(hook) for hook in cfg.get('custom_hooks') or []]
    assert bool(match[3]) == bool(hooks)
    for hook in hooks:
        last = phases_of_run(hook.phases, epochs)[-1]
        assert (last.end, last.stride) == (epochs, 4)
    if match[4] == 'in1k':
        assert epochs == 300
        assert cfg.param_scheduler[0].end == cfg.param_scheduler[1].begin == 20
        augments = [augment.type for augment in cfg.model.train_cfg.augments]
        assert augments == ['Mixup', 'CutMix']
    else:
        images = IMAGE_SETS[match[4]]
        assert cfg.data_preprocessor.mean == [images.mean] * 3
        assert cfg.data_preprocessor.std == [images.std] * 3
        for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
            assert loader.dataset.data_root == images.root
        assert cfg.param_scheduler[1].end == epochs


def test_a_progressive_config_differs_by_its_hook_only() -> None:
    for size in ('small', 'base', 'large'):
        plain, progressive = (
            Config.fromfile(ROOT / f'configs/asvit/asvit-{size}_8xb128{part}_in1k.py')
            for part in ('', '-progressive')
        )
        assert progressive.pop('custom_hooks')
        assert plain.pop('custom_hooks', None) is None
        assert plain.to_dict() == progressive.to_dict()


def test_the_share_of_multiply_adds_in_headers_is_the_counted_one() -> None:
    for path in LEAVES:
        cfg = Config.fromfile(path)
        if 'progressive_in1k' not in path.stem:
            continue
        arch = as_architecture(cfg.model.backbone.arch)
        full, spent, start = count_macs(arch, 224, 1000), 0, 0
        for phase in phases_of_run(read_schedule(cfg.custom_hooks[0].phases), 300):
            spent += (phase.end - start) * count_macs(arch, 224, 1000, token_stride=phase.stride)
            start = phase.end
        saved = 100 * (1 - spent / (300 * full))
        assert f'{saved:.1f} % fewer' in path.read_text(), (path.stem, saved)
        readme = (path.parent / 'README.md').read_text()
        assert re.search(rf'\({path.name}\).*\| {100 - saved:.1f} % \|', readme), (path.stem, saved)


def test_searched_networks_are_those_of_the_recorded_run() -> None:
    result = json.loads((ROOT / 'docs/runs/scale/result.json').read_text())
    found = {target['arch'] for target in result['targets']}
    for path in (ROOT / 'configs/searched').glob('*.py'):
        assert Config.fromfile(path).model.backbone.arch in found


@pytest.mark.parametrize('metafile', METAFILES, ids=lambda path: path.parent.name)
def test_metafiles_list_every_leaf_and_headers_have_its_results(metafile: Path) -> None:
    content = yaml.safe_load(metafile.read_text())
    collections = {c['Name']: c for c in content['Collections']}
    models = {m['Name']: m for m in content['Models']}
    assert set(models) == {path.stem for path in metafile.parent.glob('*.py')}
    for name, model in models.items():
        config = ROOT / model['Config']
        assert config.stem == name
        assert (ROOT / collections[model['In Collection']]['README']).is_file()
        for result in model.get('Results', ()):
            ((metric, value),) = result['Metrics'].items()
            kind = 'Published' if metric.startswith('Published ') else 'Measured'
            assert metric.removeprefix('Published ') == 'Top 1 Accuracy'
            assert re.search(rf'^# {kind}: *{value:.4g} top-1', config.read_text(), re.M)


def test_one_training_step_of_the_smallest_config() -> None:
    cfg = Config.fromfile(ROOT / 'configs/digits/asvit-seed_b64-progressive_digits.py')
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model | {'data_preprocessor': cfg.data_preprocessor})
    batch = {
        'inputs': torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8),
        'data_samples': [DataSample().set_gt_label(i) for i in range(2)],
    }
    loss = model.train_step(batch, build_optim_wrapper(model, cfg.optim_wrapper))['loss']
    # Fresh weights: near the loss of a uniform guess among ten classes.
    assert abs(loss.item() - 2.30) < 0.5
