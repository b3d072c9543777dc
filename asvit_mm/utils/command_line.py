"""A dataclass of settings as a command line: a field is a flag, the string below it in the source its help.

A ``bool`` field is a switch, a ``Literal`` one has choices, a sequence takes several words. Imports nothing
heavy: a tool's ``-h`` must not wait for torch.
"""

import argparse
import ast
import dataclasses
import importlib
import inspect
import textwrap
import types
from collections.abc import Callable, Collection, Sequence
from dataclasses import MISSING
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ..errors import InputError, one_line_errors

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

POSITIONAL = {'positional': True}

Settings = TypeVar('Settings', bound='DataclassInstance')


def positional(**options: Any) -> Any:
    """A field that the command line takes without a flag; see :func:`option`."""
    return option(positional=True, **options)


def option(
    *,
    default: Any = MISSING,
    positional: bool = False,
    aliases: Collection[str] = (),
    at_least: int | None = None,
    at_most: int | None = None,
    **arguments: Any,
) -> Any:
    """A field whose flag is not what its name and type make of it.

    Args:
        default: of the field.
        positional: whether the command line takes it without a flag. A field that Python takes by position
            too is written ``field(kw_only=False, metadata=POSITIONAL)``, which type checkers understand.
        aliases: further flags.
        at_least, at_most: the smallest and the largest value that :func:`check_values` accepts.
        arguments: of argparse's ``add_argument``: nargs, metavar, choices.
    """
    metadata = {
        'positional': positional,
        'aliases': aliases,
        'at_least': at_least,
        'at_most': at_most,
        'arguments': arguments,
    }
    return dataclasses.field(default=default, metadata=metadata)


def parse(
    settings: type[Settings], description: str | None, words: Sequence[str] | None = None
) -> Settings:
    """The settings that the command line gives; a mistake in it ends the process with a line and status 2.

    Args:
        settings: a dataclass, which may refuse a value with an InputError. ``img_size`` is ``--img-size``.
        description: for ``-h``; the tool's docstring.
        words: the command line; None: the process's.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    hints, helps = get_type_hints(settings), field_help(settings)
    for field in dataclasses.fields(settings):
        _add_argument(parser, field, hints[field.name], helps.get(field.name, ''))
    given = vars(parser.parse_intermixed_args(words))
    return settings(
        **{k: tuple(value) if isinstance(value, list) else value for k, value in given.items()}
    )


def make_tool(
    settings: type[Settings],
    run: str | Callable[[Settings], object],
    description: str | None,
    **arguments: Any,
) -> tuple[Callable[[], Settings], Callable[[], None]]:
    """``parse_args`` and ``main`` of a tool that hands its settings over to a function.

    Args:
        run: the function; one of the package as ``'module:name'``: it is imported when the command line has
            been read, so that ``-h`` waits for nothing.
        description: see :func:`parse`.
        arguments: of the function, beside the settings.
    """

    def parse_args() -> Settings:
        return parse(settings, description)

    def main() -> None:
        with one_line_errors():
            given = parse_args()
            function: Any = run
            if isinstance(run, str):
                module, _, name = run.partition(':')
                function = getattr(importlib.import_module(module), name)
            function(given, **arguments)

    return parse_args, main


def check_values(settings: Any) -> None:
    """Check settings that Python has created, where argparse has not seen them; None is not checked.

    Raises:
        InputError: a value below ``at_least`` or above ``at_most`` of its field, or none of those of a
            ``Literal`` field.
    """
    hints = get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if value is None:
            continue
        smallest = field.metadata.get('at_least')
        if smallest is not None and value < smallest:
            raise InputError(f'{_flag(field)} {value} is too small: give at least {smallest}')
        largest = field.metadata.get('at_most')
        if largest is not None and value > largest:
            raise InputError(f'{_flag(field)} {value} is too large: give at most {largest}')
        kind, several = _word_of(hints[field.name])
        if get_origin(kind) is not Literal:
            continue
        for word in value if several else [value]:
            if word not in get_args(kind):
                known = ', '.join(get_args(kind))
                raise InputError(f'{_flag(field)} {word!r} is not known: choose from {known}')


def as_arguments(settings: Any, leave_out: Collection[str] = ()) -> list[str]:
    """The words of the command line that :func:`parse` reads as ``settings``, defaults left out."""
    unnamed: list[str] = []
    named: list[str] = []
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.name in leave_out or value == field.default:
            continue
        words = [] if value is True else value if isinstance(value, list | tuple) else [value]
        if field.metadata.get('positional'):
            unnamed += map(str, words)
        else:
            named += [_flag(field), *map(str, words)]
    return [*unnamed, *named]


def field_help(settings: type) -> dict[str, str]:
    """The strings below the fields of a dataclass and of its bases, each joined to one line."""
    found: dict[str, str] = {}
    for base in reversed(settings.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(tree, ast.ClassDef)
        for field, below in zip(tree.body, tree.body[1:], strict=False):
            match field, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    found[name] = ' '.join(text.split())
    return found


def _flag(field: dataclasses.Field[Any]) -> str:
    return f'--{field.name.replace("_", "-")}'


def _add_argument(
    parser: argparse.ArgumentParser, field: dataclasses.Field[Any], hint: Any, text: str
) -> None:
    required = field.default is MISSING and field.default_factory is MISSING
    word, several = _word_of(hint)
    # A value that is not given is left to the dataclass, hence no default here.
    arguments: dict[str, Any] = {'help': _help(field.default, text), 'default': argparse.SUPPRESS}
    if word is bool:
        arguments['action'] = 'store_true'
    elif get_origin(word) is Literal:
        arguments['choices'] = get_args(word)
    else:
        arguments['type'] = word
    if several:
        arguments['nargs'] = '+'
    arguments |= field.metadata.get('arguments', {})
    # A flag that is given again replaces what it said, except for settings of a config, which add up.
    if several and arguments.get('metavar') == 'KEY=VALUE':
        arguments['action'] = 'extend'
    if field.metadata.get('positional'):
        if not required:
            arguments.setdefault('nargs', '?')
            # argparse checks the default of an optional positional, so it cannot be left out.
            arguments['default'] = field.default
        parser.add_argument(field.name, **arguments)
        return
    flags = (_flag(field), *field.metadata.get('aliases', ()))
    parser.add_argument(*flags, dest=field.name, required=required, **arguments)


def _word_of(hint: Any) -> tuple[Any, bool]:
    """The type that a word of the command line is read as, and whether the field takes several words."""
    kind = _one_of(hint)
    several = get_origin(kind) in (Sequence, list, tuple)
    return (_one_of(get_args(kind)[0]) if several else kind), several


def _one_of(hint: Any) -> Any:
    """Of a union ``str`` if it is a member, otherwise the first member; any other type as it is."""
    if get_origin(hint) not in (Union, types.UnionType):
        return hint
    members = get_args(hint)
    return str if str in members else members[0]


def _help(default: Any, text: str) -> str:
    """``text``, with a default that it does not name."""
    if 'default' not in text and type(default) in (str, int, float):
        text = f'{text} (default: {default})'
    elif 'default' not in text and isinstance(default, tuple | list) and default:
        text = f'{text} (default: {" ".join(map(str, default))})'
    return text.replace('%', '%%')
