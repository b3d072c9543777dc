"""The text of configs: values as Python code, comments, commands, and the text read back.

MMEngine replaces ``{{ ... }}`` anywhere in a config's text, inside strings and comments too, so no text
written here has two opening braces in a row.
"""

import math
import os
import shlex
from keyword import iskeyword
from typing import Any

from mmengine.config import Config

WIDTH = 100


def code(value: Any, indent: int = 0) -> str:
    """A plain value as Python code, ``dict(...)`` where all keys are names; long ones one item a line."""
    if isinstance(value, dict):
        names = all(isinstance(k, str) and k.isidentifier() and not iskeyword(k) for k in value)
        first, last = ('dict(', ')') if names else ('{', '}')
        items = [
            (f'{key}=' if names else f'{code(key)}: ') + code(item, indent + 4)
            for key, item in value.items()
        ]
    elif isinstance(value, list):
        first, last = '[', ']'
        items = [code(item, indent + 4) for item in value]
    elif isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    else:
        return repr(value).replace('{{', '{\\x7b')
    line = first + ', '.join(items) + last
    if '\n' not in line and indent + len(line) < WIDTH - 20:
        return line
    lines = [f'{" " * (indent + 4)}{item},\n' for item in items]
    return f'{first}\n{"".join(lines)}{" " * indent}{last}'


def assignments(values: dict[str, Any]) -> str:
    """Names and the values that a config gives them."""
    return '\n'.join(f'{name} = {code(value)}' for name, value in values.items())


def comment(*lines: str) -> str:
    """Lines of comments; control characters and undecodable bytes become question marks."""
    printable = (''.join(char if char.isprintable() else '?' for char in line) for line in lines)
    return '\n'.join('# ' + line.replace('{{', '{ {') for line in printable)


def quote(word: str) -> str:
    """A word of a shell command, in printable characters; bash's ``$'...'`` where it has others."""
    if word.isprintable() and '{{' not in word:
        return shlex.quote(word)
    plain = set(range(32, 127)) - set(b"'\\{")
    return "$'" + ''.join(chr(b) if b in plain else f'\\x{b:02x}' for b in os.fsencode(word)) + "'"


def launch_command(
    config: str | os.PathLike[str], gpus: int, *, python: str = 'python', tools: str = 'tools'
) -> str:
    """The shell command that trains a config on ``gpus`` GPUs."""
    path = quote(os.fspath(config))
    if gpus > 1:
        return f'bash {quote(f"{tools}/dist_train.sh")} {path} {gpus}'
    return f'{quote(python)} {quote(f"{tools}/train.py")} {path}'


def check_text(text: str, expected: dict[str, Any]) -> None:
    """Read a config's text back with MMEngine and compare fields.

    Args:
        expected: dotted names of fields and their values.

    Raises:
        RuntimeError: a field reads back as something else: a defect of the writer.
    """
    cfg = Config.fromstring(text, '.py')
    for name, value in expected.items():
        found: Any = cfg
        for part in name.split('.'):
            found = found[part]
        if found != value:
            raise RuntimeError(f'{name} of a written config reads back as {found!r}, not {value!r}')
