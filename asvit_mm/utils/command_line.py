"""A dataclass of settings as a command line: a field is a flag, the string below it in the source its help.

A ``bool`` field is a switch, a ``Literal`` one has choices, a sequence takes several words. Imports nothing
heavy: a tool's ``-h`` must not wait for torch.
"""

import argparse
import ast
import dataclasses
import inspect
import textwrap
import types
from collections.abc import Collection, Sequence
from dataclasses import MISSING
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ..errors import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

POSITIONAL = {'positional': True}

Settings = TypeVar('Settings', bound='DataclassInstance')


def switch(**options: Any) -> Any:
    """A field that is False unless its flag is given; see :func:`option`."""
    return option(default=False, **options)


def positional(**options: Any) -> Any:
    """A field that the command line takes without a flag; see :func:`option`."""
    return option(positional=True, **options)


def option(
    *,
    positional: bool = False,
    nargs: str | None = None,
    metavar: str | None = None,
    choices: Sequence[str] | None = None,
    aliases: Collection[str] = (),
    at_least: int | None = None,
    **field: Any,
) -> Any:
    """A field whose flag is not what its name and type make of it.

    Args:
        positional: whether the command line takes it without a flag. A field that Python takes by position
            too is written ``field(kw_only=False, metadata=POSITIONAL)``, which type checkers understand.
        nargs: how many words, as argparse has it; None: one, or for a sequence at least one.
        metavar: what stands for the value in the help.
        choices: the values that the command line takes; None: all, or those of a ``Literal``.
        aliases: further flags.
        at_least: the smallest value that :func:`check_minimums` lets pass.
        field: arguments of :func:`dataclasses.field`.
    """
    metadata = {
        'positional': positional,
        'nargs': nargs,
        'metavar': metavar,
        'choices': choices,
        'aliases': aliases,
        'at_least': at_least,
    }
    return dataclasses.field(metadata=metadata, **field)


def parse(
    settings: type[Settings], description: str | None, words: Sequence[str] | None = None
) -> Settings:
    """The settings that the command line gives; a mistake in it ends the process with a line and status 2.

    Args:
        settings: a dataclass. ``img_size`` is ``--img-size``; the string below a field is its help.
        description: what the tool does, for ``-h``; its docstring.
        words: the command line; None: the process's.

    Raises:
        InputError: the dataclass refuses a value.
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


def check_minimums(settings: Any) -> None:
    """Refuse a value below what its field has as ``at_least``; None is no value.

    Raises:
        InputError: it is.
    """
    for field in dataclasses.fields(settings):
        smallest, value = field.metadata.get('at_least'), getattr(settings, field.name)
        if smallest is not None and value is not None and value < smallest:
            raise InputError(f'{_flag(field)} {value} is too small: give at least {smallest}')


def as_arguments(settings: Any, leave_out: Collection[str] = ()) -> list[str]:
    """The words of the command line that :func:`parse` reads as ``settings``, defaults left out."""
    unnamed: list[str] = []
    named: list[str] = []
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.name in leave_out or value == field.default:
            continue
        several = isinstance(value, list | tuple)
        words = [] if value is True else list(map(str, value)) if several else [str(value)]
        if field.metadata.get('positional'):
            unnamed += words
        else:
            named += [_flag(field), *words]
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
    optional = field.default is not MISSING or field.default_factory is not MISSING
    # A value that is not given is left to the dataclass, hence no default here.
    options: dict[str, Any] = {'help': _help(field.default, text), 'default': argparse.SUPPRESS}
    kind = _one_of(hint)
    several = get_origin(kind) in (Sequence, list, tuple)
    word = _one_of(get_args(kind)[0]) if several else kind
    if kind is bool:
        options['action'] = 'store_true'
    else:
        literal = get_origin(word) is Literal
        options['type'] = str if literal else word
        options['choices'] = field.metadata.get('choices') or (get_args(word) if literal else None)
        options['metavar'] = field.metadata.get('metavar')
        options['nargs'] = field.metadata.get('nargs') or ('+' if several else None)
        # A flag that is given again replaces what it said, except for settings of a config, which add up.
        if several and options['metavar'] == 'KEY=VALUE':
            options['action'] = 'extend'
    if field.metadata.get('positional'):
        if optional and not options['nargs']:
            options['nargs'] = '?'
        parser.add_argument(field.name, **options)
        return
    flags = (_flag(field), *field.metadata.get('aliases', ()))
    parser.add_argument(*flags, dest=field.name, required=not optional, **options)


def _one_of(hint: Any) -> Any:
    """The type that a word is read as: of a union ``str``, where it is in it, otherwise the first one."""
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
