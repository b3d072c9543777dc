"""What each phase of progressive tokenization costs, before anything is trained."""

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from rich.console import Console
from rich.table import Table

from ..config_writer.configs import TOKEN_HOOK
from ..engine.config import load_config, require
from ..engine.runner import check_codebase, parse_options
from ..errors import InputError
from ..token_schedule import (
    PUBLISHED,
    PUBLISHED_SAVINGS,
    PUBLISHED_STEPS,
    Phase,
    TokenizedBackbone,
    mean_cost,
    phases_of_run,
    read_schedule,
)
from ..utils.files import atomic_write_json, relative
from ..utils.units import format_count
from .settings import CostSettings

OWN = "the config's"
TABLE_WIDTH = 100


def run_costs(settings: CostSettings) -> dict[str, Any]:
    """Count, print and write what the phases of a config and of the published schedules cost.

    Returns:
        Plain data. ``schedules``: for each its phases (``end``, ``stride``, ``dilation``, ``grids`` of the
        stages, ``step`` in per cent of a step at the full grid, ``share`` of the run in per cent), what
        it saves in per cent and what was published; or why it does not fit (``refused``).

    Raises:
        InputError: no such config, or one whose backbone has no tokens that can be changed.
    """
    cfg = load_config(settings.config, parse_options(settings.cfg_options))
    require(cfg, ['model', 'train_cfg'], 'the cost of its phases')
    check_codebase(cfg)
    backbone = build_tokenized(cfg, settings.config)
    # The phases count in the unit of the config's run.
    iterations = cfg.train_cfg.get('max_iters')
    unit = 'iteration' if iterations else 'epoch'
    length = iterations or cfg.train_cfg.max_epochs
    schedules: dict[str, Any] = {name: name for name in PUBLISHED}
    for hook in cfg.get('custom_hooks') or ():
        if TOKEN_HOOK.endswith(str(hook.get('type') or ' ')):
            schedules = {OWN: hook['phases'], **schedules}
    result = {
        'config': settings.config,
        'img_size': list(backbone.img_size),
        'macs': backbone.count_macs(backbone.token_stride),
        'unit': unit,
        'length': length,
        'schedules': {
            name: _cost(backbone, schedule, length, unit) for name, schedule in schedules.items()
        },
    }
    _print(result)
    if settings.json is not None:
        print(f'written: {relative(atomic_write_json(settings.json, result))}')
    return result


def build_tokenized(cfg: Config, name: str) -> Any:
    """The backbone of the config called ``name``, a :class:`~asvit_mm.token_schedule.TokenizedBackbone`.

    Raises:
        InputError: it cannot be built, or its tokens cannot be changed.
    """
    scope = cfg.get('default_scope') or 'mmengine'
    with DefaultScope.overwrite_default_scope(scope):
        try:
            backbone = MODELS.build(cfg.model.backbone)
        except (AttributeError, KeyError, TypeError) as error:
            raise InputError(
                f'the model of {name} has no backbone that can be built: {error}'
            ) from None
    if not isinstance(backbone, TokenizedBackbone):
        raise InputError(
            f'{type(backbone).__name__} is no backbone whose tokens can be changed: give a config with '
            'asvit_mm.AsViT or asvit_mm.TokenizedVisionTransformer'
        )
    return backbone


def _cost(backbone: Any, schedule: Any, length: int, unit: str) -> dict[str, Any]:
    full = backbone.count_macs(backbone.token_stride)
    try:
        phases = phases_of_run(read_schedule(schedule, backbone.base_token_stride), length, unit)
        for phase in phases:
            backbone.check_token_stride(phase.stride, phase.dilation)
    except InputError as error:
        return {'refused': str(error)}
    steps = {phase.stride: 100 * backbone.count_macs(phase.stride) / full for phase in phases}
    starts = [0, *(phase.end for phase in phases)]
    # What is published is of ImageNet's size.
    known = schedule in tuple(PUBLISHED_SAVINGS) and tuple(backbone.img_size) == (224, 224)
    return {
        'phases': [
            {
                'end': phase.end,
                'stride': phase.stride,
                'dilation': _dilation(backbone, phase),
                'grids': [list(grid) for grid in backbone.token_grids(phase.stride)],
                'step': steps[phase.stride],
                'share': 100 * (phase.end - start) / length,
            }
            for phase, start in zip(phases, starts, strict=False)
        ],
        'saved': 100 - mean_cost(phases, steps, length),
        'published': PUBLISHED_SAVINGS[schedule] if known else None,
    }


def _dilation(backbone: Any, phase: Phase) -> int:
    before = backbone.token_stride, backbone.token_dilation
    backbone.set_token_stride(phase.stride, phase.dilation)
    dilation: int = backbone.token_dilation
    backbone.set_token_stride(*before)
    return dilation


def _print(result: Mapping[str, Any]) -> None:
    height, width = result['img_size']
    console = Console(highlight=False)
    console.width = max(TABLE_WIDTH, console.width)
    print(
        f'{result["config"]}: {result["length"]} {result["unit"]}s at {height}x{width} pixels, backbone '
        f'{format_count(result["macs"])} multiply-adds per image at the full grid'
    )
    for name, schedule in result['schedules'].items():
        if 'refused' in schedule:
            print(f'{name}: does not fit: {schedule["refused"]}')
            continue
        console.print(_table(name, schedule, result['unit']))


def _table(name: str, schedule: Mapping[str, Any], unit: str) -> Table:
    published = schedule['published']
    saved = f'{schedule["saved"]:.1f} % of the multiply-adds of training saved'
    shown = Table(
        title=f'{name}: {saved}' + (f' (published: {published:g} %)' if published else ''),
        title_justify='left',
    )
    for column in (f'to {unit}', 'share of the run', 'stride', 'dilation', 'tokens of the stages'):
        shown.add_column(column, justify='right')
    shown.add_column('a step', justify='right')
    shown.add_column('published', justify='right')
    for phase in schedule['phases']:
        step = PUBLISHED_STEPS.get(phase['stride']) if published else None
        shown.add_row(
            str(phase['end']),
            f'{phase["share"]:.1f} %',
            str(phase['stride']),
            str(phase['dilation']),
            ', '.join(f'{rows}x{columns}' for rows, columns in phase['grids']),
            f'{phase["step"]:.1f} %',
            '' if step is None else f'{step:g} %',
        )
    return shown
