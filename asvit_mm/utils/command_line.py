"""A dataclass of settings as a command line: a field is a flag, the text below it its help.

The parsing is that of simple_parsing, an ``argparse`` that reads dataclasses. Imports nothing heavy: a tool's
``-h`` must not wait for torch.
"""

from collections.abc import Collection
from dataclasses import fields
from typing import Any, TypeVar

import simple_parsing
from simple_parsing.wrappers.field_wrapper import DashVariant

Settings = TypeVar('Settings')


def switch(**metadata: Any) -> Any:
    """A field that is False unless its flag is given."""
    return simple_parsing.flag(default=False, action='store_true', **metadata)


def positional(**metadata: Any) -> Any:
    """A field that the command line takes without a flag."""
    return simple_parsing.field(positional=True, **metadata)


def parse(settings: type[Settings], description: str | None) -> Settings:
    """The settings that the command line gives; a mistake in it ends the process with a line and status 2.

    Args:
        settings: a dataclass. ``img_size`` is ``--img-size``; the string below a field is its help.
        description: what the tool does, for ``-h``; its docstring.

    Raises:
        InputError: the dataclass refuses a value.
    """
    return simple_parsing.parse(
        settings, description=description, add_option_string_dash_variants=DashVariant.DASH
    )


def as_arguments(settings: Any, leave_out: Collection[str] = ()) -> list[str]:
    """The words of the command line that :func:`parse` reads as ``settings``, defaults left out."""
    unnamed: list[str] = []
    named: list[str] = []
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.name in leave_out:
            continue
        if field.metadata.get('positional'):
            unnamed += [str(value)]
        elif value != field.default:
            named.append(f'--{field.name.replace("_", "-")}')
            if isinstance(value, list | tuple):
                named += map(str, value)
            elif value is not True:
                named.append(str(value))
    return [*unnamed, *named]
