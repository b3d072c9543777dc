"""An architecture as a ready mmpretrain config: text over shipped bases, read back and compared.

The text needs nothing but an environment in which asvit_mm is installed: bases are named by package
(``mmpretrain::``) or by absolute path, so a config trains from any directory.
"""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..arch import BASE_STRIDE, Architecture
from ..cost import count_macs
from ..data.source import DataSource
from ..engine.config import TOKEN_HOOK, is_token_hook
from ..errors import InputError, one_line
from ..models.classifier import classifier_config
from ..token_schedule import (
    DEFAULT,
    Phase,
    Schedule,
    mean_cost,
    phases_of_run,
    read_schedule,
)
from ..tokens import fits_windows, stage_sizes, window_length
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
        InputError: nothing can be built on the user's config, or progressive tokenization would save nothing.
    """
    plan = recipe(data, options)
    params, macs = data.params(arch), data.macs(arch)
    kept = (data.config and data.config.get('custom_hooks')) or []
    tokens = None
    if progressive and not any(map(is_token_hook, kept)):
        tokens = fit_phases(plan.phases or DEFAULT, arch, data.img_size, plan.run_length)
    header = comment(
        f'As-ViT {arch}',
        f'{params:,} parameters ({format_count(params)}), {format_count(macs)} multiply-adds per image of '
        f'{data.img_size}x{data.img_size} pixels, {data.num_classes} classes',
        *([tokens.note] if tokens else []),
        *([data.note] if data.note else []),
        f'Train: {train_command(path, data)}',
        *plan.reasons,
    )
    model = _model(arch, data, plan, params)
    model['backbone'].update(backbone or {})
    if tokens and tokens.window_size:
        model['backbone'].setdefault('window_size', tokens.window_size)
    replacing = {'_delete_': True, **model} if plan.replaces_model else model
    blocks = [
        header,
        assignments({'_base_': plan.bases}),
        assignments(plan.settings),
        assignments({'model': replacing}),
        plan.body.strip(),
    ]
    hooks = list(plan.hooks)
    if tokens:
        unit = {} if plan.by_epoch else {'by_epoch': False}
        hooks.append({'type': TOKEN_HOOK, 'phases': tokens.phases, **unit})
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


class FittedPhases(NamedTuple):
    """Phases that fit a network, its images and the length of its run.

    Attributes:
        phases: as the hook takes them, with strides in pixels: the name of the schedule, if all of it fits.
        window_size: tokens per side of the windows, where coarse grids have fewer tokens than ``splits`` has
            windows: those of the full grid, so that the full grid stays what it is; else None.
        saved: multiply-adds of training that they save, in per cent.
    """

    phases: str | list[dict[str, Any]]
    window_size: tuple[int, ...] | None
    saved: float

    @property
    def note(self) -> str:
        """What is saved and how, for a config's header."""
        how = ', with windows of fixed sizes' if self.window_size else ''
        return f'Progressive tokenization{how}: saves {self.saved:.0f} % of the multiply-adds of training'


def fit_phases(
    schedule: Schedule, arch: Architecture, img_size: int, run_length: int
) -> FittedPhases:
    """Fit phases to a network, without those that cost as much as the next one.

    Args:
        schedule: name or phases of an end and a stride, for an architecture whose stride is 4.
        run_length: epochs or iterations.

    Raises:
        InputError: other phases, or nothing would be saved.
    """
    given = read_schedule(schedule)
    if given != tuple(Phase(phase.end, phase.strides[0]) for phase in given) or any(
        phase.strides[0] % BASE_STRIDE for phase in given
    ):
        raise InputError(
            f'progressive tokenization: {schedule!r} cannot be fitted to an architecture: a phase may '
            f'have only an end and one stride, a multiple of {BASE_STRIDE}'
        )
    if given[-1].stride != BASE_STRIDE:
        raise InputError(
            f'progressive tokenization: {schedule!r} ends at stride {given[-1].stride}, not the full grid: '
            f'end with stride {BASE_STRIDE}'
        )
    scaled = [(phase.end, phase.strides[0] * arch.stride // BASE_STRIDE) for phase in given]
    windows = None
    if not all(fits_windows(img_size, stride, arch.splits) for _, stride in scaled[:-1]):
        windows = tuple(map(window_length, stage_sizes(img_size, arch.stride), arch.splits))
    costs = {
        stride: float(count_macs(arch, img_size, token_stride=stride, window_size=windows))
        for _, stride in scaled
    }
    fitted = [Phase(*scaled[-1])]
    for end, stride in reversed(scaled[:-1]):
        if costs[stride] < costs[fitted[0].strides[0]]:
            fitted.insert(0, Phase(end, stride))
    run = phases_of_run(fitted, run_length)
    if len(run) == 1:
        raise InputError(
            f'progressive tokenization would save nothing in a run of {run_length} with images of {img_size} '
            'pixels: leave it out (--progressive), or train longer or on larger images'
        )
    saved = 100 - 100 * mean_cost(run, costs, run_length) / costs[scaled[-1][1]]
    if isinstance(schedule, str) and len(fitted) == len(scaled):
        return FittedPhases(schedule, windows, saved)
    written = [
        {'end': end if isinstance(end, int) else round(end, 4), 'stride': phase.stride}
        for phase in fitted
        for end in (phase.end,)
    ]
    return FittedPhases(written, windows, saved)


def _model(arch: Architecture, data: DataSource, plan: Recipe, params: int) -> dict[str, Any]:
    rate = round(drop_path_rate(params) * plan.drop_path_share, 3)
    backbone: dict[str, Any] = {'img_size': data.img_size}
    if data.in_channels != 3:
        backbone['in_channels'] = data.in_channels
    if rate:
        backbone['drop_path_rate'] = rate
    model = classifier_config(arch, data.num_classes, **backbone)
    given = data.given_head
    if given is None:
        model['head']['loss'] = plan.loss
    else:
        head = model['head'] = {
            **given,
            'num_classes': data.num_classes,
            'in_channels': arch.widths[-1],
        }
        if head['type'].endswith('CSRAClsHead'):  # pools by itself
            del model['neck']
        elif head['type'].endswith('MultiLabelClsHead'):  # has no layer of its own
            head['type'] = 'MultiLabelLinearClsHead'
    return {**model, **plan.model}
