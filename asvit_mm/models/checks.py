"""Checks of the backbone's settings, each with a message that says what is allowed."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..arch import NUM_STAGES
from ..errors import InputError
from ..tokens import MERGE_ROUNDINGS


def check(
    in_channels: Any,
    rates: Sequence[Any],
    frozen_stages: Any,
    with_cp: Any,
    norm_cfg: Any,
    act_cfg: Any,
    merge_rounding: Any,
    init_cfg: Any,
) -> None:
    """Check those settings of ``AsViT`` that no other function checks.

    Args:
        rates: ``drop_rate``, ``attn_drop_rate``, ``drop_path_rate``.

    Raises:
        InputError: a setting that is not allowed.
    """
    _require(_is_int(in_channels, 1), f'{in_channels = }', 'an integer from 1 up')
    for name, rate in zip(('drop_rate', 'attn_drop_rate', 'drop_path_rate'), rates, strict=True):
        number = isinstance(rate, int | float) and 0 <= rate < 1
        _require(number, f'{name} = {rate!r}', 'a number from 0 to below 1')
    frozen = _is_int(frozen_stages, -1, NUM_STAGES)
    _require(frozen, f'{frozen_stages = }', '-1 (none), 0 (embedding) to 4')
    _require(isinstance(with_cp, bool), f'{with_cp = }', 'True or False')
    kind = norm_cfg.get('type') if isinstance(norm_cfg, Mapping) else None
    layer_norm = norm_cfg is None or kind in ('LN', 'LayerNorm')
    _require(layer_norm, f'{norm_cfg = }', 'LN, since tokens are (..., C), or None')
    activation = isinstance(act_cfg, Mapping) and 'type' in act_cfg
    _require(activation, f'{act_cfg = }', "a dict such as dict(type='GELU')")
    given = init_cfg if isinstance(init_cfg, list | tuple) else [init_cfg or {}]
    configs = all(isinstance(one, Mapping) for one in given)
    _require(configs, f'{init_cfg = }', "dict(type='Pretrained', checkpoint='PATH'), or None")
    roundings = ', '.join(MERGE_ROUNDINGS)
    _require(merge_rounding in MERGE_ROUNDINGS, f'{merge_rounding = }', f'one of {roundings}')


def as_stages(out_indices: Any) -> tuple[int, ...]:
    """Increasing numbers of stages from one integer or several, negative ones from the end.

    Raises:
        InputError: not increasing, none, or no stages.
    """
    given = out_indices if isinstance(out_indices, Sequence) else (out_indices,)
    integers = all(_is_int(i, -NUM_STAGES, NUM_STAGES - 1) for i in given)
    stages = tuple(i % NUM_STAGES for i in given) if integers else ()
    increasing = bool(stages) and sorted(set(stages)) == list(stages)
    _require(increasing, f'{out_indices = }', 'increasing stages from 0 to 3, or from the end -1')
    return stages


def _require(allowed: bool, setting: str, hint: str) -> None:
    if not allowed:
        raise InputError(f'{setting} is not allowed: give {hint}')


def _is_int(value: Any, lowest: int, highest: int | None = None) -> bool:
    return type(value) is int and lowest <= value and (highest is None or value <= highest)
