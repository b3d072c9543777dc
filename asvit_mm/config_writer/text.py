"""The text of configs: values as Python code, comments, commands, and the text read back.

MMEngine replaces ``{{ ... }}`` anywhere in a config's text, inside strings and comments too, so no text
written here has two opening braces in a row.
"""

import keyword
import math
import os
import shlex
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config


def code(value: Any) -> str:
    """A plain value as Python code in one line, ``dict(...)`` where all keys are names."""
    if isinstance(value, dict):
        if all(_is_name(key) for key in value):
            return 'dict(' + ', '.join(f'{key}={code(item)}' for key, item in value.items()) + ')'
        return '{' + ', '.join(f'{code(key)}: {code(item)}' for key, item in value.items()) + '}'
    if isinstance(value, list):
        return '[' + ', '.join(map(code, value)) + ']'
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    return repr(value).replace('{{', '{\\x7b')


def code_lines(values: Sequence[Any]) -> str:
    """A list as Python code, one value per line."""
    return '[\n' + ''.join(f'    {code(value)},\n' for value in values) + ']'


def comment(line: str) -> str:
    """A comment of one line; control characters and undecodable bytes become question marks."""
    printable = ''.join(char if char.isprintable() else '?' for char in line)
    return '# ' + printable.replace('{{', '{ {')


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
        expected: dotted names of fields and their values; None: not there.

    Raises:
        RuntimeError: a field reads back as something else: a defect of the writer.
    """
    cfg = Config.fromstring(text, '.py')
    for name, value in expected.items():
        read: Any = cfg
        for part in name.split('.'):
            read = read.get(part)
        if isinstance(value, tuple) and read is not None:
            read = tuple(read)
        if read != value:
            raise RuntimeError(f'{name} of a written config reads back as {read!r}, not {value!r}')


def _is_name(key: Any) -> bool:
    return isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key)
