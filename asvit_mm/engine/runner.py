"""Training and testing any config with MMEngine's Runner: the jobs of tools/train.py and tools/test.py.

They replace the tools of mmpretrain and mmdet, which differ in details only (the collate function, the
visualization hook, the class that dumps predictions), and report a user's mistakes in one line before
anything is built.
"""

import argparse
import importlib
import math
import os
import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.device import get_device
from mmengine.registry import METRICS, RUNNERS
from mmengine.runner import Runner, find_latest_checkpoint

from ..checkpoints.reading import read_checkpoint
from ..errors import InputError
from ..utils.files import atomic_write_json
from .config import check_data, is_detector, load_config, one_line, require
from .distributed import check_launcher, start_processes

MMCV_COMMAND = (
    'mim install onedl-mmcv (prebuilt), or, to build it: '
    'pip install --no-build-isolation --no-cache-dir --force-reinstall --no-deps onedl-mmcv'
)


def train(args: argparse.Namespace) -> Runner:
    """Train ``args.config``, by the arguments of tools/train.py; returns the Runner after its run.

    Raises:
        InputError: before training: a mistake in the arguments or the config, a checkpoint to start from of
            which no weight fits the model, or one to resume that does not have all weights of the model.
    """
    cfg = _prepare(args)
    require(cfg, ['model', 'train_cfg', 'train_dataloader', 'optim_wrapper'], 'training')
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp:
        _require_gpu('--amp')
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
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
    checkpoint = cfg.get('load_from')
    if checkpoint is None and cfg.get('resume') and Path(cfg.work_dir).is_dir():
        checkpoint = find_latest_checkpoint(cfg.work_dir)
    content = None if checkpoint is None else read_checkpoint(checkpoint)
    if content is not None and cfg.get('resume'):
        _check_resumable(content, checkpoint)
    runner = _build(cfg)
    if content is not None:
        _check_weights(runner.model, content, checkpoint, whole=bool(cfg.get('resume')))
        del content  # the Runner reads it again, to its own device
    runner.train()
    return runner


def test(args: argparse.Namespace) -> dict[str, Any]:
    """Evaluate ``args.checkpoint`` on the config's test set, by the arguments of tools/test.py.

    Returns:
        the metrics.

    Raises:
        InputError: a mistake in the arguments or the config, or no weight of the checkpoint fits the model.
    """
    out_item = _out_item(args)
    cfg = _prepare(args)
    require(cfg, ['model', 'test_dataloader', 'test_evaluator'], 'testing')
    # Instead of what the config may load or resume.
    cfg.load_from, cfg.resume = args.checkpoint, False
    cfg.test_cfg = cfg.get('test_cfg') or {}
    if args.amp:
        _require_gpu('--amp')
        cfg.test_cfg.fp16 = True
    if args.show or args.show_dir is not None:
        _enable_visualization(cfg, args)
    _set_loader_defaults(cfg, args, ['test_dataloader'])
    check_data(cfg, ['test_dataloader'])
    checkpoint = read_checkpoint(args.checkpoint)
    if args.out is not None:
        _require_folder(
            'the folder of --out,', Path(args.out).parent
        )  # before the test, not after it
    runner = _build(cfg)
    _check_weights(runner.model, checkpoint, args.checkpoint)
    if out_item == 'pred':
        runner.test_evaluator.metrics.append(_dump_results(cfg, args.out))
    metrics = runner.test()
    if out_item == 'metrics' and runner.rank == 0:
        atomic_write_json(args.out, _plain(metrics))
    return metrics


def parse_options(pairs: Sequence[str] | None) -> dict[str, Any]:
    """Parse ``KEY=VALUE`` strings to a dict of dotted keys, with values as MMEngine's DictAction reads them.

    Raises:
        InputError: a string without ``=``.
    """
    if not pairs:
        return {}
    for pair in pairs:
        if not pair.partition('=')[0] or '=' not in pair:
            raise InputError(f'--cfg-options {pair!r} is not KEY=VALUE')
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    return parser.parse_args(['--cfg-options', *pairs]).cfg_options


def _prepare(args: argparse.Namespace) -> Config:
    """The config with its options, work dir and launcher; imports its codebase."""
    # So that other libraries' own calls of torch.load cannot run a checkpoint either.
    os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'
    os.environ.pop('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', None)
    cfg = load_config(args.config, parse_options(args.cfg_options))
    check_codebase(cfg)
    check_launcher(args.launcher)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    if Path(cfg.work_dir).exists() and not Path(cfg.work_dir).is_dir():
        raise InputError(f'--work-dir {cfg.work_dir!r} is a file: name a folder')
    return cfg


def check_codebase(cfg: Config) -> None:
    """Import the codebase of a config's default scope; mmpretrain is imported anyway.

    Raises:
        InputError: the codebase is not installed, or mmcv lacks the operators that it needs.
    """
    scope = cfg.get('default_scope') or 'mmengine'
    if scope in ('mmengine', 'mmpretrain', 'asvit_mm'):
        return
    try:
        # All codebases of OpenMMLab except mmpretrain need mmcv's compiled operators.
        importlib.import_module('mmcv._ext')
    except ImportError as error:
        raise InputError(
            f'{scope} needs mmcv with compiled operators, and this mmcv has none ({error}): '
            + MMCV_COMMAND
        ) from error
    try:
        importlib.import_module(f'{scope}.registry')
    except ModuleNotFoundError as error:
        raise InputError(f'the config is for {scope}, which cannot be imported: {error}') from error


def _require_gpu(flag: str) -> None:
    if not torch.cuda.is_available():
        raise InputError(f'{flag} needs a GPU and there is none: leave it out')


def _set_loader_defaults(cfg: Config, args: argparse.Namespace, loaders: Sequence[str]) -> None:
    """Set the defaults that mmpretrain's tool sets; the config overrides them, and flags override both."""
    for name in loaders:
        if cfg.get(name) is None:
            continue
        loader = ConfigDict(pin_memory=torch.cuda.is_available())
        # torch refuses persistent workers where there are no workers.
        loader.persistent_workers = cfg[name].get('num_workers', 0) > 0
        if cfg.get('default_scope') == 'mmpretrain':
            loader.collate_fn = {'type': 'default_collate'}
        loader.update(cfg[name])
        if args.no_pin_memory:
            loader.pin_memory = False
        if args.no_persistent_workers or not loader.get('num_workers', 0):
            loader.persistent_workers = False
        cfg[name] = loader


def _build(cfg: Config) -> Runner:
    _require_folder('--work-dir', Path(cfg.work_dir))
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
    try:
        return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    except (RuntimeError, pickle.UnpicklingError) as error:
        # Of a model that reads weights by itself, such as timm's.
        if not re.search('weights.only', str(error), re.IGNORECASE):
            raise
        raise InputError(
            'the config names a checkpoint with more than weights and plain data, which is not loaded, since '
            f'loading could run it: {one_line(error)}'
        ) from error


def _require_folder(flag: str, folder: Path) -> None:
    """Create the folder and check that it is writable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f'{flag} {str(folder)!r} cannot be made ({error.strerror}): name another'
        ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f'{flag} {str(folder)!r} cannot be written to: name another')


def _check_resumable(checkpoint: dict[str, Any], path: str) -> None:
    """Check that a checkpoint holds the progress of its run."""
    meta = checkpoint.get('meta') if 'state_dict' in checkpoint else {}
    if not all(isinstance((meta or {}).get(key), int) for key in ('epoch', 'iter')):
        raise InputError(
            f'checkpoint {str(path)!r} holds weights, but no run to resume: to start from the weights, '
            f'leave --resume out and give --cfg-options load_from={path}'
        )


def _check_weights(
    model: torch.nn.Module, checkpoint: dict[str, Any], path: str, whole: bool = False
) -> None:
    """Check that some weights of a checkpoint fit the model (MMEngine ignores all that do not).

    Args:
        whole: check that they include all weights of the model, as those of its own run do.
    """
    if not isinstance(model, torch.nn.Module):
        return  # MMEngine's FlexibleRunner builds the model later
    given = checkpoint.get('state_dict', checkpoint)
    own = getattr(model, 'module', model).state_dict()
    shapes = {key.removeprefix('module.'): getattr(v, 'shape', None) for key, v in given.items()}
    missing = sorted(key for key, value in own.items() if shapes.get(key) != value.shape)
    if len(missing) == len(own):
        raise InputError(
            f'none of the {len(given)} weights in {path!r} fits the model of the config: '
            'use it with the config that trained it'
        )
    if whole and missing:
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


def _out_item(args: argparse.Namespace) -> str | None:
    """What to write to ``--out``: ``metrics`` (.json) or ``pred`` (.pkl); None without ``--out``."""
    if args.out is None:
        if args.out_item is not None:
            raise InputError('--out-item without --out: name the file with --out')
        return None
    suffixes = {'metrics': ('.json',), 'pred': ('.pkl', '.pickle')}
    suffix = Path(args.out).suffix
    item = args.out_item or ('metrics' if suffix == '.json' else 'pred')
    if suffix not in suffixes[item]:
        raise InputError(f'--out {args.out!r}: {item} are written to {" or ".join(suffixes[item])}')
    return item


def _dump_results(cfg: Config, path: str) -> Any:
    dumper = 'mmdet.DumpDetResults' if is_detector(cfg) else 'DumpResults'
    return METRICS.build(dict(type=dumper, out_file_path=path))


def _enable_visualization(cfg: Config, args: argparse.Namespace) -> None:
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    if hook is None:
        raise InputError(
            f'--show and --show-dir: {args.config} has no default_hooks.visualization; add '
            "visualization=dict(type='VisualizationHook') or 'DetVisualizationHook' to its hooks"
        )
    switch, folder = ('draw', 'test_out_dir') if is_detector(cfg) else ('enable', 'out_dir')
    hook.update({switch: True, folder: args.show_dir, 'show': args.show})
    hook.update(wait_time=args.wait_time, interval=args.interval)
