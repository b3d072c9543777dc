"""An architecture as a ready mmpretrain config: text over shipped bases, read back and compared.

The text needs nothing but an environment in which asvit_mm is installed: bases are named by package
(``mmpretrain::``) or by absolute path, so a config trains from any directory.
"""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..arch import Architecture, as_architecture
from ..cost import count_macs, count_params
from ..data.source import DataSource
from ..token_schedule import DEFAULT, STRIDES, read_schedule
from ..tokens import fits_windows
from ..utils.files import atomic_write_text
from ..utils.units import format_count
from .recipes import Recipe, recipe

TOKEN_HOOK = 'asvit_mm.ProgressiveTokenizationHook'


def progressive_phases(run_length: int) -> list[dict[str, int]]:
    """Phases of the published schedule 80-140 over a run of ``run_length`` epochs or iterations.

    Phases that round to nothing are left out, the coarsest first; the last one always ends the run.
    """
    shares = [phase.end for phase in read_schedule(DEFAULT)]
    rounded = sorted({round(run_length * share) for share in shares} - {0})
    strides = STRIDES[-len(rounded) :]
    return [{'end': end, 'stride': stride} for end, stride in zip(rounded, strides, strict=True)]


def fitting_phases(
    phases: Sequence[Mapping[str, int]], arch: Architecture, img_size: int
) -> list[dict[str, int]]:
    """Phases whose strides are halved until every stage has as many tokens a side as windows."""
    fitting: list[dict[str, int]] = []
    for phase in phases:
        stride = phase['stride']
        while not fits_windows(img_size, stride, arch.splits):
            stride //= 2
        if fitting and fitting[-1]['stride'] == stride:
            fitting.pop()
        fitting.append({**phase, 'stride': stride})
    return fitting


def config_text(
    arch: Architecture, data: DataSource, *, progressive: bool = False, path: str = 'CONFIG'
) -> str:
    """The text of a config that trains ``arch`` on ``data``.

    Args:
        progressive: with progressive tokenization (by the user's config, where that has it).
        path: what the header's command calls the config.
    """
    plan = recipe(data)
    params = count_params(arch, data.num_classes, img_size=data.img_size)
    macs = count_macs(arch, data.img_size, data.num_classes)
    size = f'{data.img_size}x{data.img_size}'
    header = [
        f'As-ViT {arch}',
        f'{params:,} parameters ({format_count(params)}), {format_count(macs)} multiply-adds an '
        f'image of {size} pixels, {data.num_classes} classes',
        *([data.note] if data.note else []),
        f'Train: {train_command(path, data)}',
    ]
    blocks = [
        '\n'.join(f'# {line}' for line in header),
        base_block(plan.bases),
        _model_block(arch, data, plan, params),
        plan.body.strip(),
    ]
    # A user's config may have a schedule of tokens already, which is kept as all but its model is.
    has_hook = any(TOKEN_HOOK.endswith(name) for name in _hook_types(data.settings))
    if progressive and not has_hook:
        blocks.append(_hook_block(arch, data, plan))
    text = '\n\n'.join(block for block in blocks if block) + '\n'
    _check(text, arch, data, progressive or has_hook)
    return text


def write_config(
    path: str | os.PathLike[str],
    arch: Architecture,
    data: DataSource,
    *,
    progressive: bool = False,
) -> Path:
    """Write a config, whole or not at all, once MMEngine has read the same architecture back."""
    path = Path(path)
    text = config_text(arch, data, progressive=progressive, path=str(path))
    return atomic_write_text(path, text)


def train_command(
    config: str | os.PathLike[str],
    data: DataSource,
    *,
    python: str = 'python',
    tools: str = 'tools',
) -> str:
    """The shell command that trains a written config on the number of GPUs that it is made for."""
    return launch_command(config, recipe(data).gpus, python=python, tools=tools)


def launch_command(
    config: str | os.PathLike[str], gpus: int, *, python: str = 'python', tools: str = 'tools'
) -> str:
    """The shell command that trains a config on ``gpus`` GPUs."""
    path = shlex.quote(str(config))
    if gpus > 1:
        return f'bash {shlex.quote(tools + "/dist_train.sh")} {path} {gpus}'
    return f'{shlex.quote(python)} {shlex.quote(tools + "/train.py")} {path}'


def drop_path_rate(params: int) -> float:
    """Stochastic depth that fits a network's size.

    A rule of thumb, not of the paper: 0 for the smallest, then 0.1, and from 20 M parameters on
    what Swin takes at the size (0.2, 0.3, 0.5).
    """
    steps = ((5, 0.0), (20, 0.1), (40, 0.2), (70, 0.3))
    return next((rate for limit, rate in steps if params < limit * 10**6), 0.5)


def base_block(bases: Sequence[str]) -> str:
    """The assignment of ``_base_``."""
    lines = ''.join(f'    {base!r},\n' for base in bases)
    return f'_base_ = [\n{lines}]'


def _model_block(arch: Architecture, data: DataSource, plan: Recipe, params: int) -> str:
    width = arch.widths[-1]
    rate = drop_path_rate(params)
    backbone = [
        "        type='asvit_mm.AsViT',",
        f'        arch={str(arch)!r},',
        f'        img_size={data.img_size},',
        *([f'        drop_path_rate={rate},'] if rate else []),
    ]
    extra = ''.join(f'    {name}={_code(value)},\n' for name, value in plan.model_extra.items())
    delete = '    _delete_=True,\n' if plan.replaces_model else ''
    return (
        'model = dict(\n'
        f'{delete}'
        "    type='ImageClassifier',\n"
        '    backbone=dict(\n' + '\n'.join(backbone) + '\n    ),\n'
        "    neck=dict(type='GlobalAveragePooling'),\n"
        '    head=dict(\n'
        "        type='VisionTransformerClsHead',\n"
        f'        num_classes={data.num_classes},\n'
        f'        in_channels={width},\n'
        f'        hidden_dim={width},\n'
        "        act_cfg=dict(type='Tanh'),\n"
        "        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),\n"
        f'        loss={_code(plan.loss)},\n'
        '    ),\n'
        f'{extra}'
        ')'
    )


def _hook_block(arch: Architecture, data: DataSource, plan: Recipe) -> str:
    phases = fitting_phases(plan.phases or progressive_phases(plan.run_length), arch, data.img_size)
    lines = ''.join(
        f'            dict(end={phase["end"]}, stride={phase["stride"]}),\n' for phase in phases
    )
    by_epoch = '' if plan.by_epoch else '        by_epoch=False,\n'
    kept = '    *_base_.custom_hooks,\n' if data.settings.get('custom_hooks') else ''
    return (
        'custom_hooks = [\n'
        f'{kept}'
        '    dict(\n'
        f'        type={TOKEN_HOOK!r},\n'
        f'        phases=[\n{lines}        ],\n'
        f'{by_epoch}'
        '    ),\n'
        ']'
    )


def _hook_types(cfg: Mapping[str, Any]) -> list[str]:
    return [str(hook['type']) for hook in cfg.get('custom_hooks') or []]


def _code(value: Any) -> str:
    """A config value as configs write it: ``dict(...)`` where all keys are names."""
    if isinstance(value, dict) and all(str(key).isidentifier() for key in value):
        return 'dict(' + ', '.join(f'{key}={_code(item)}' for key, item in value.items()) + ')'
    if isinstance(value, list):
        return '[' + ', '.join(map(_code, value)) + ']'
    return repr(value)


def _check(text: str, arch: Architecture, data: DataSource, progressive: bool) -> None:
    """Read the text back with MMEngine: a config that says something else is a defect of ours."""
    cfg = Config.fromstring(text, '.py')
    backbone, head = cfg.model.backbone, cfg.model.head
    read: list[Any] = [as_architecture(backbone.arch), head.num_classes, head.in_channels]
    if read != [arch, data.num_classes, arch.widths[-1]]:
        raise RuntimeError(f'the config written for {arch} reads back as {read}')
    hooks = _hook_types(cfg)
    if progressive != any(TOKEN_HOOK.endswith(name) for name in hooks):
        raise RuntimeError(f'the config written for {arch} reads back with hooks {hooks}')
