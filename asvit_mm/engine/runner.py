"""Training and testing any config with MMEngine's Runner: the jobs of tools/train.py and tools/test.py.

One tool serves mmpretrain, mmdet, mmseg and mmrotate, whose own tools differ in details only (the collate
function, the visualization hook, the class that dumps predictions).
"""

import importlib
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.registry import METRICS, RUNNERS
from mmengine.runner import Runner

from ..checkpoints.reading import read_checkpoint, select_weights
from ..errors import InputError
from ..utils.files import atomic_write_json, check_writable, refuse_special_files
from .arguments import EvaluateSettings, RunnerSettings, TrainSettings
from .classes import check_categories_when_read, check_classes
from .config import (
    CODEBASES,
    MissingCodebaseError,
    check_data,
    is_detector,
    is_segmentor,
    load_config,
    report_ignored,
    require,
)
from .console import ConsoleRunner, import_codebase
from .distributed import check_launcher, start_processes
from .failures import config_failures, name_images
from .options import parse_options
from .token_grids import set_token_stride

MMCV_COMMAND = (
    'mim install onedl-mmcv (prebuilt), or, to build it: '
    'pip install --no-build-isolation --no-cache-dir --force-reinstall --no-deps onedl-mmcv'
)


def train(args: TrainSettings) -> Runner:
    """Train ``args.config``, by the arguments of tools/train.py; returns the Runner after its run.

    Raises:
        InputError: before training: a mistake in the arguments or the config, or a checkpoint that does not
            fit the model.
    """
    cfg = _load(args)
    with config_failures(cfg, 'training failed'):
        return _train(cfg, args)


def _train(cfg: Config, args: TrainSettings) -> Runner:
    _prepare(cfg, args)
    require(cfg, ['model', 'train_cfg', 'train_dataloader', 'optim_wrapper'], 'training')
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    elif _is_amp(cfg.optim_wrapper) and get_device() == 'cpu':
        raise InputError(
            f'{args.config} trains with AmpOptimWrapper, which needs a GPU, and there is none: give '
            '--cfg-options optim_wrapper.type=OptimWrapper (and remove loss_scale and dtype, if it has them)'
        )
    if args.auto_scale_lr:
        if (cfg.get('auto_scale_lr') or {}).get('base_batch_size') is None:
            raise InputError(
                f'--auto-scale-lr: {args.config} has no auto_scale_lr.base_batch_size; add '
                '--cfg-options auto_scale_lr.base_batch_size=N, N the batch its rate is meant for'
            )
        cfg.auto_scale_lr.enable = True
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    loaders = ['train_dataloader', 'val_dataloader']
    _set_loader_defaults(cfg, args, loaders)
    check_data(cfg, loaders)
    if cfg.get('load_from') is None and cfg.get('resume'):
        cfg.load_from = latest_checkpoint(Path(cfg.work_dir))
    checkpoint = cfg.get('load_from')
    content = None if checkpoint is None else read_checkpoint(checkpoint)
    runner = _build(cfg)
    if content is not None:
        _check_weights(runner.model, content, checkpoint, resume=bool(cfg.get('resume')))
        del content  # the Runner reads it again, to its own device
    check_loaders(runner, loaders)
    runner.train()
    return runner


def test(args: EvaluateSettings) -> dict[str, Any]:
    """Evaluate ``args.checkpoint`` on the test set, by the arguments of tools/test.py; returns the metrics.

    Raises:
        InputError: a mistake in the arguments or the config, or no weight of the checkpoint fits the model.
    """
    out_item = _out_item(args)
    cfg = _load(args)
    with config_failures(cfg, 'testing failed'):
        return _test(cfg, args, out_item)


def _test(cfg: Config, args: EvaluateSettings, out_item: str | None) -> dict[str, Any]:
    _prepare(cfg, args)
    require(cfg, ['model', 'test_dataloader', 'test_evaluator'], 'testing')
    # Instead of what the config may load or resume.
    cfg.load_from, cfg.resume = args.checkpoint, False
    cfg.test_cfg = cfg.get('test_cfg') or {}
    if args.amp:
        cfg.test_cfg.fp16 = True
    if args.show or args.show_dir is not None:
        _enable_visualization(cfg, args)
    if args.tta:
        _enable_tta(cfg, args)
    _set_loader_defaults(cfg, args, ['test_dataloader'])
    check_data(cfg, ['test_dataloader'])
    checkpoint = read_checkpoint(args.checkpoint)
    if args.out is not None:
        check_writable(Path(args.out), '--out')  # before the test, not after it
    runner = _build(cfg)
    _check_weights(runner.model, checkpoint, args.checkpoint)
    if args.token_stride is not None:
        try:
            set_token_stride(runner.model, args.token_stride)
        except InputError as error:
            raise InputError(f'--token-stride: {error}') from None
    if out_item == 'pred':
        dumper = 'mmdet.DumpDetResults' if is_detector(cfg) else 'DumpResults'
        metric = METRICS.build(dict(type=dumper, out_file_path=args.out))
        runner.test_evaluator.metrics.append(metric)
    check_loaders(runner, ['test_dataloader'])
    metrics = runner.test()
    if args.out is not None and out_item == 'metrics' and runner.rank == 0:
        atomic_write_json(args.out, _plain(metrics))
    return metrics


def _load(args: RunnerSettings) -> Config:
    """The config with its options and work directory; also prepares this process."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))  # unless the launcher has set it
    # So that other libraries' own calls of torch.load cannot run a checkpoint either.
    os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'
    os.environ.pop('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', None)
    name_images()
    cfg = load_config(args.config, parse_options(args.cfg_options))
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    if not isinstance(cfg.work_dir, str):
        raise InputError(
            f'work_dir = {cfg.work_dir!r} of {args.config} is not the path of a folder'
        )
    return cfg


def _prepare(cfg: Config, args: RunnerSettings) -> None:
    """Check what a config needs of this machine, and set the launcher; imports its codebase."""
    check_codebase(cfg)
    scope = cfg.get('default_scope')
    import_codebase(scope if scope in CODEBASES else 'mmpretrain')
    if is_detector(cfg):
        check_categories_when_read()
    report_ignored(cfg)
    check_launcher(args.launcher)
    if args.amp and not torch.cuda.is_available():
        raise InputError('--amp needs a GPU and there is none: leave it out')
    cfg.launcher = args.launcher


def check_codebase(cfg: Config) -> None:
    """Import the codebase of a config's default scope; mmpretrain is imported anyway.

    Raises:
        InputError: the codebase or an operator of mmcv that it needs is not installed.
    """
    scope = cfg.get('default_scope') or 'mmengine'
    if scope in ('mmengine', 'mmpretrain', 'asvit_mm'):
        return
    if find_spec(scope) is None:
        raise MissingCodebaseError(cfg.filename or 'the config', scope)
    # All codebases of OpenMMLab except mmpretrain need mmcv's compiled operators.
    for module, need, advice in (
        ('mmcv._ext', 'mmcv with compiled operators, and this mmcv has none', f': {MMCV_COMMAND}'),
        (f'{scope}.registry', 'what it imports', ''),
    ):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise InputError(f'{scope} needs {need} ({error}){advice}') from error


def _set_loader_defaults(cfg: Config, args: RunnerSettings, loaders: Sequence[str]) -> None:
    """Set the defaults that mmpretrain's tool sets; the config overrides them, and flags override both."""
    for name in loaders:
        if cfg.get(name) is None:
            continue
        loader = cfg[name]
        workers = loader.get('num_workers', 0) > 0
        loader.setdefault('pin_memory', torch.cuda.is_available())
        loader.setdefault('persistent_workers', workers)
        if cfg.get('default_scope') == 'mmpretrain':
            loader.setdefault('collate_fn', {'type': 'default_collate'})
        if args.no_pin_memory:
            loader.pin_memory = False
        # torch refuses persistent workers where there are no workers.
        if args.no_persistent_workers or not workers:
            loader.persistent_workers = False


def _build(cfg: Config) -> Runner:
    with suppress(OSError):
        os.makedirs(cfg.work_dir, exist_ok=True)
    if not os.path.isdir(cfg.work_dir) or not os.access(cfg.work_dir, os.W_OK | os.X_OK):
        raise InputError(f'--work-dir {cfg.work_dir!r} cannot be made or written to: name another')
    if (cfg.get('randomness') or {}).get('deterministic'):
        # Without it torch refuses matrix products on CUDA; cuBLAS reads it when it is first used.
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    if cfg.launcher == 'pytorch' and get_device() == 'cpu':
        # MMEngine's own initialisation and model wrapper require a GPU.
        start_processes(cfg.launcher, torch.device('cpu'))
        wrapper = ConfigDict(
            type='MMDistributedDataParallel',
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False),
        )
        cfg.model_wrapper_cfg = ConfigDict(cfg.get('model_wrapper_cfg') or wrapper)
        if cfg.model_wrapper_cfg.get('type', wrapper.type) == wrapper.type:
            cfg.model_wrapper_cfg.device_ids = None
    refuse_special_files(Path(cfg.work_dir).iterdir())
    with config_failures(cfg, 'cannot be built'):
        return RUNNERS.build(cfg) if 'runner_type' in cfg else ConsoleRunner.from_cfg(cfg)


def latest_checkpoint(work_dir: Path) -> str | None:
    """The checkpoint that a run in ``work_dir`` goes on from; None if there is none.

    MMEngine writes its path into last_checkpoint, as it was at that time: a work dir may have been moved or
    copied since, and the file may be cut where the disk was full.
    """
    file = work_dir / 'last_checkpoint'
    refuse_special_files([file])
    try:
        recorded = file.read_text(encoding='utf-8', errors='replace').strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f'{str(file)!r} cannot be read ({error.strerror}): remove it') from None
    if not recorded:
        raise InputError(f'{str(file)!r} is empty: give the checkpoint with --resume PATH')
    here = work_dir / Path(recorded).name
    return str(here) if here.is_file() else recorded


def _is_amp(optim_wrapper: Any) -> bool:
    kind = optim_wrapper.get('type') if isinstance(optim_wrapper, Mapping) else None
    return str(getattr(kind, '__name__', kind)).endswith('AmpOptimWrapper')


def check_loaders(runner: Runner, names: Sequence[str]) -> None:
    """Build the data loaders that a run will use, and compare their classes with the model's."""
    for name in names:
        loader = getattr(runner, name, None)
        if isinstance(runner.model, torch.nn.Module) and loader is not None:
            check_classes(runner.model, loader.dataset, name)


def _check_weights(
    model: torch.nn.Module, checkpoint: dict[str, Any], path: str, resume: bool = False
) -> None:
    """Refuse a checkpoint of which no weight fits the model; to resume, all must, and it must hold a run.

    MMEngine itself ignores weights that do not fit.
    """
    meta = checkpoint.get('meta') if 'state_dict' in checkpoint else None
    if resume and not all(isinstance((meta or {}).get(key), int) for key in ('epoch', 'iter')):
        raise InputError(
            f'checkpoint {str(path)!r} holds weights, but no run to resume: to start from the weights, '
            f'leave --resume out and give --cfg-options load_from={path}'
        )
    if not isinstance(model, torch.nn.Module):
        return  # MMEngine's FlexibleRunner builds the model later
    # The wrappers for distributed training and test-time augmentation have the model as an attribute.
    while isinstance(wrapped := getattr(model, 'module', None), torch.nn.Module):
        model = wrapped
    given, own = select_weights(checkpoint, ''), model.state_dict()
    missing = sorted(k for k, v in own.items() if getattr(given.get(k), 'shape', None) != v.shape)
    if len(missing) == len(own):
        raise InputError(
            f'none of the {len(given)} weights in {path!r} fits the model of the config: '
            'use it with the config that trained it'
        )
    if resume and missing:
        raise InputError(
            f'{path!r} cannot be resumed: {len(missing)} of the {len(own)} weights of the model are not '
            f'in it or have another shape ({missing[0]}); resume with the config that trained it'
        )


def _plain(value: Any) -> Any:
    """Metrics as JSON: tensors and arrays become lists, numbers that are not finite None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, 'tolist'):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, type(None))) else str(value)


def _out_item(args: EvaluateSettings) -> str | None:
    """What to write to ``--out``: ``metrics`` (.json) or ``pred`` (.pkl); None without ``--out``."""
    if args.out is None:
        if args.out_item is not None:
            raise InputError('--out-item without --out: name the file with --out')
        return None
    suffix = Path(args.out).suffix
    item = args.out_item or ('metrics' if suffix == '.json' else 'pred')
    suffixes = ('.json',) if item == 'metrics' else ('.pkl', '.pickle')
    if suffix not in suffixes:
        raise InputError(f'--out {args.out!r}: {item} are written to {" or ".join(suffixes)}')
    return item


def _enable_tta(cfg: Config, args: EvaluateSettings) -> None:
    """Wrap model and pipeline for test-time augmentation, by default as OpenMMLab's tools do."""
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    if not dataset.get('pipeline'):
        raise InputError(f'--tta: the test dataset of {args.config} has no pipeline to augment')
    pack = dataset.pipeline[-1]
    if is_detector(cfg):
        if not cfg.get('tta_model'):
            _check_merged_by_mmdet(cfg)
        merged = dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)
        wrapper = dict(type='DetTTAModel', tta_cfg=merged)  # in MMEngine's own registry
        keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
        pack = {**pack, 'meta_keys': (*keys, 'flip', 'flip_direction')}
    elif is_segmentor(cfg):
        wrapper = dict(type='mmseg.SegTTAModel')
    else:
        wrapper = dict(type='mmpretrain.AverageClsScoreTTA')
    # Merged predictions keep the annotations of the first view, which must be the image as it is.
    flips = [dict(type='RandomFlip', prob=probability) for probability in (0.0, 1.0)]
    augment = dict(type='TestTimeAug', transforms=[flips, [pack]])
    dataset.pipeline = cfg.get('tta_pipeline') or [*dataset.pipeline[:-1], augment]
    cfg.model = ConfigDict(**(cfg.get('tta_model') or wrapper), module=cfg.model)


def _check_merged_by_mmdet(cfg: Config) -> None:
    if (cfg.model.get('roi_head') or {}).get('mask_head'):
        raise InputError(
            '--tta: mmdet merges boxes, not masks: leave it out, or test the boxes alone by '
            '--cfg-options model.roi_head.mask_head=None test_evaluator.metric=bbox'
        )
    if cfg.model.get('mask_head') or cfg.model.get('panoptic_head'):
        raise InputError(
            '--tta: mmdet merges boxes, not masks: leave it out, or name a model that merges them as '
            'tta_model in the config'
        )
    if cfg.default_scope != 'mmdet':
        raise InputError('--tta: mmdet merges upright boxes, not rotated ones: leave it out')


def _enable_visualization(cfg: Config, args: EvaluateSettings) -> None:
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    if hook is None:
        raise InputError(
            f'--show and --show-dir: {args.config} has no default_hooks.visualization; add '
            "visualization=dict(type='VisualizationHook'), 'DetVisualizationHook' or "
            "'SegVisualizationHook' to its hooks"
        )
    if is_segmentor(cfg):
        hook.update(draw=True, show=args.show, wait_time=args.wait_time, interval=args.interval)
        if args.show_dir is not None:
            cfg.visualizer.save_dir = args.show_dir
        return
    switch, folder = ('draw', 'test_out_dir') if is_detector(cfg) else ('enable', 'out_dir')
    hook.update({switch: True, folder: args.show_dir, 'show': args.show})
    hook.update(wait_time=args.wait_time, interval=args.interval)
