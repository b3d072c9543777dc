"""What each phase of progressive tokenization costs, before anything is trained."""

from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from ..engine.config import is_token_hook, load_config, require
from ..engine.options import parse_options
from ..engine.runner import check_codebase
from ..errors import InputError
from ..token_schedule import (
    PUBLISHED,
    PUBLISHED_SAVINGS,
    PUBLISHED_STEPS,
    TokenizedBackbone,
    all_strides,
    mean_cost,
    phases_for,
)
from ..utils.files import write_figures
from ..utils.units import format_count
from .settings import CostSettings
from .tables import print_table

OWN = "the config's"


def run_costs(settings: CostSettings) -> dict[str, Any]:
    """Count, print and write what the phases of a config and of the published schedules cost.

    Returns:
        Plain data. ``schedules``: for each its phases (``end``, ``stride``, of a phase with several strides
        one entry for each, ``dilation``, None where the kernel is resized, ``grids`` of the stages, ``step``
        in per cent of a step at the full grid, ``share`` of the run in per cent), what it saves in per cent
        and what was published; or why it does not fit (``refused``).

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
        if is_token_hook(hook):
            schedules = {OWN: hook['phases'], **schedules}
    costs = {name: _cost(backbone, schedule, length, unit) for name, schedule in schedules.items()}
    height, width = backbone.img_size
    macs = backbone.count_macs(backbone.token_stride)
    print(
        f'{settings.config}: {length} {unit}s at {height}x{width} pixels, backbone '
        f'{format_count(macs)} multiply-adds per image at the full grid'
    )
    for name, cost in costs.items():
        _print(name, cost, unit)
    result = {
        'config': settings.config,
        'img_size': [height, width],
        'macs': macs,
        'unit': unit,
        'length': length,
        'schedules': costs,
    }
    write_figures(settings.json, result)
    return result


def build_tokenized(cfg: Config, name: str) -> Any:
    """The backbone of the config called ``name``, a :class:`~asvit_mm.token_schedule.TokenizedBackbone`.

    Raises:
        InputError: it cannot be built, or its tokens cannot be changed.
    """
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmengine'):
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
    full = backbone.token_stride
    try:
        phases = phases_for(backbone, schedule, length, unit)
    except InputError as error:
        return {'refused': str(error)}
    found, start = [], 0.0
    macs = backbone.count_macs(full)
    steps = {s: 100 * backbone.count_macs(s) / macs for s in all_strides(phases)}
    for phase in phases:
        for stride, share in phase.shares.items():
            backbone.set_token_stride(stride, phase.dilation)
            found.append(
                {
                    'end': phase.end,
                    'stride': stride,
                    'dilation': backbone.token_dilation,
                    'grids': [list(grid) for grid in backbone.token_grids(stride)],
                    'step': steps[stride],
                    'share': 100 * share * (phase.end - start) / length,
                }
            )
        start = phase.end
        backbone.set_token_stride(full)
    # What is published is of ImageNet's size.
    known = schedule in tuple(PUBLISHED_SAVINGS) and tuple(backbone.img_size) == (224, 224)
    return {
        'phases': found,
        'saved': 100 - mean_cost(phases, steps, length),
        'published': PUBLISHED_SAVINGS[schedule] if known else None,
    }


def _print(name: str, cost: dict[str, Any], unit: str) -> None:
    if 'refused' in cost:
        print(f'{name}: does not fit: {cost["refused"]}')
        return
    published = cost['published']
    saved = f'{cost["saved"]:.1f} % of the multiply-adds of training saved'
    rows = [
        {
            f'to {unit}': str(phase['end']),
            'share of the run': f'{phase["share"]:.1f} %',
            'stride': str(phase['stride']),
            'dilation': str(phase['dilation'] or 'resized'),
            'tokens of the stages': ', '.join(f'{h}x{w}' for h, w in phase['grids']),
            'a step': f'{phase["step"]:.1f} %',
            'published': f'{step:g} %' if published and step else '',
        }
        for phase in cost['phases']
        for step in (PUBLISHED_STEPS.get(phase['stride']),)
    ]
    print_table(f'{name}: {saved}' + (f' (published: {published:g} %)' if published else ''), rows)
