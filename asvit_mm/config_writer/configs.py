"""An architecture as a ready mmpretrain config: text over shipped bases, read back and compared.

The text needs nothing but an environment in which asvit_mm is installed: bases are named by package
(``mmpretrain::``) or by absolute path, so a config trains from any directory.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..arch import BASE_STRIDE, Architecture
from ..cost import count_macs, count_params
from ..data.source import DataSource
from ..engine.config import TOKEN_HOOK, is_token_hook
from ..errors import InputError, one_line
from ..token_schedule import DEFAULT, STRIDES, read_schedule
from ..tokens import fits_windows
from ..utils.units import format_count
from .recipes import Recipe, RecipeOptions, recipe
from .text import assignments, check_text, code, comment, launch_command


def config_text(
    arch: Architecture,
    data: DataSource,
    *,
    progressive: bool = False,
    path: str = 'CONFIG',
    options: RecipeOptions = RecipeOptions(),  # noqa: B008 (frozen)
    backbone: Mapping[str, Any] | None = None,
) -> str:
    """The text of a config that trains ``arch`` on ``data``.

    Args:
        progressive: with progressive tokenization; a user's config that has a schedule of its own keeps it.
        path: of the config, for the command in its header.
        options: of the recipe.
        backbone: further arguments of the backbone.

    Raises:
        InputError: nothing can be built on the user's config.
    """
    plan = recipe(data, options)
    params = count_params(arch, data.num_classes, img_size=data.img_size)
    macs = count_macs(arch, data.img_size, data.num_classes)
    header = comment(
        f'As-ViT {arch}',
        f'{params:,} parameters ({format_count(params)}), {format_count(macs)} multiply-adds per image of '
        f'{data.img_size}x{data.img_size} pixels, {data.num_classes} classes',
        *([data.note] if data.note else []),
        f'Train: {train_command(path, data)}',
        *plan.reasons,
    )
    model = _model(arch, data, plan, params)
    model['backbone'].update(backbone or {})
    replacing = {'_delete_': True, **model} if plan.replaces_model else model
    blocks = [
        header,
        assignments({'_base_': plan.bases}),
        assignments(plan.settings),
        assignments({'model': replacing}),
        plan.body.strip(),
    ]
    kept = (data.config and data.config.get('custom_hooks')) or []
    hooks = list(plan.hooks)
    if progressive and not any(map(is_token_hook, kept)):
        hooks.append(_token_hook(arch, data, plan))
    if hooks:
        place = '' if 'custom_hooks' in plan.settings else '_base_.'
        blocks.append(f'custom_hooks = {f"{place}custom_hooks + " if kept else ""}{code(hooks)}')
    text = '\n\n'.join(block for block in blocks if block) + '\n'
    try:
        check_text(text, {**plan.settings, 'model': model})
    except Exception as error:
        if data.config is None:
            raise
        raise InputError(f'no config can be built on {data.spec!r}: {one_line(error)}') from error
    return text


def train_command(
    config: str | os.PathLike[str],
    data: DataSource,
    *,
    python: str = 'python',
    tools: str = 'tools',
) -> str:
    """The shell command that trains a written config on the number of GPUs that it is made for."""
    return launch_command(config, recipe(data).gpus, python=python, tools=tools)


def drop_path_rate(params: int) -> float:
    """Stochastic depth that fits a network's size.

    A rule of thumb, not from the paper: 0 for the smallest, then 0.1, and from 20 M parameters on
    what Swin takes at the size (0.2, 0.3, 0.5).
    """
    steps = ((5, 0.0), (20, 0.1), (40, 0.2), (70, 0.3))
    return next((rate for limit, rate in steps if params < limit * 10**6), 0.5)


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
    """Phases in units of the architecture's stride, halved until every stage has a token per window."""
    fitting: list[dict[str, int]] = []
    for phase in phases:
        stride = phase['stride'] * arch.stride // BASE_STRIDE
        while stride > arch.stride and not fits_windows(img_size, stride, arch.splits):
            stride //= 2
        if fitting and fitting[-1]['stride'] == stride:
            fitting.pop()
        fitting.append({**phase, 'stride': stride})
    return fitting


def _model(arch: Architecture, data: DataSource, plan: Recipe, params: int) -> dict[str, Any]:
    width, rate = arch.widths[-1], round(drop_path_rate(params) * plan.drop_path_share, 3)
    return {
        'type': 'ImageClassifier',
        'backbone': {
            'type': 'asvit_mm.AsViT',
            'arch': str(arch),
            'img_size': data.img_size,
            **({'drop_path_rate': rate} if rate else {}),
        },
        'neck': {'type': 'GlobalAveragePooling'},
        'head': {
            'type': 'VisionTransformerClsHead',
            'num_classes': data.num_classes,
            'in_channels': width,
            'hidden_dim': width,
            'act_cfg': {'type': 'Tanh'},
            'init_cfg': {'type': 'TruncNormal', 'layer': 'Linear', 'std': 0.02, 'bias': 0.0},
            'loss': plan.loss,
        },
        **plan.model,
    }


def _token_hook(arch: Architecture, data: DataSource, plan: Recipe) -> dict[str, Any]:
    phases = plan.phases or progressive_phases(plan.run_length)
    hook = {'type': TOKEN_HOOK, 'phases': fitting_phases(phases, arch, data.img_size)}
    return hook if plan.by_epoch else {**hook, 'by_epoch': False}
