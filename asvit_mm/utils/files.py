"""Atomic writes (to a temporary sibling, which is then renamed), paths, and reading JSON objects."""

import errno
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import InputError

# Levels of lists and objects in a JSON file; ours have five.
MAX_JSON_DEPTH = 50

_SPECIAL = {
    stat.S_IFLNK: 'a link',
    stat.S_IFIFO: 'a FIFO',
    stat.S_IFSOCK: 'a socket',
    stat.S_IFCHR: 'a device',
    stat.S_IFBLK: 'a device',
}


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path of the same file name, which becomes ``path`` if the block succeeds.

    If it fails, nothing is left behind. Missing parent folders are created when it succeeds.
    """
    path = Path(path)
    try:
        made = tempfile.TemporaryDirectory(dir=existing_folder(path), prefix=f'.{path.name}.')
    except FileNotFoundError as error:  # /proc and its like hold no new files, and say it this way
        raise PermissionError(errno.EACCES, error.strerror, str(path)) from None
    with made as folder:
        temporary = Path(folder) / path.name
        yield temporary
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary, path)


@contextmanager
def atomic_directory(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``path`` when the block succeeds.

    Raises:
        FileExistsError: ``path`` is not an empty folder when the block ends.
    """
    path = Path(path)
    with atomic_file(path) as temporary:
        temporary.mkdir()
        yield temporary
        if path.is_dir() and any(path.iterdir()):
            raise FileExistsError(f'{path} exists already')


def atomic_write_bytes(path: str | os.PathLike[str], data: bytes) -> Path:
    """Write ``data`` to ``path``, creating its folder; a reader sees either the old file or the new one."""
    with atomic_file(path) as temporary, temporary.open('wb') as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return Path(path)


def atomic_write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write ``text`` to ``path`` as :func:`atomic_write_bytes` does."""
    # File names with bytes that are not UTF-8 have lone surrogates in Python.
    return atomic_write_bytes(path, text.encode('utf-8', errors='backslashreplace'))


def atomic_write_json(path: str | os.PathLike[str], value: Any) -> Path:
    """Write ``value`` as indented JSON; raises a ValueError for NaN, which is not valid JSON."""
    return atomic_write_text(path, json.dumps(value, indent=2, allow_nan=False) + '\n')


def relative(path: Path) -> str:
    """``path`` in its shortest form: relative if it is in the current directory, otherwise absolute."""
    # Symbolic links stay: .venv/bin/python is one, and what it points to is another interpreter.
    path = Path.cwd() / path
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def file_name(name: str) -> str:
    """A name without the characters that file names cannot have everywhere."""
    return re.sub(r'[^\w.,@-]', '_', name)


def check_writable(path: str | os.PathLike[str] | None, option: str = '--json') -> None:
    """Raise an InputError if the file that ``option`` names, if any, cannot be written, in good time."""
    if path is None:
        return
    folder = existing_folder(Path(path))
    if Path(path).is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f'{option} {str(path)!r} cannot be written: give a file in another folder')


def write_figures(path: str | os.PathLike[str] | None, figures: Any) -> None:
    """Write the file that ``--json`` names, if any, and say so."""
    if path is not None:
        print(f'written: {relative(atomic_write_json(path, figures))}')


def existing_folder(path: Path) -> Path:
    """The innermost existing parent of ``path``."""
    return next(parent for parent in path.absolute().parents if parent.exists())


def refuse_special_files(paths: Iterable[Path]) -> None:
    """Raise an InputError if one of ``paths`` is a link or a special file; none has to exist.

    To write to a link changes what it points to, and to open a FIFO waits for ever.
    """
    for path in paths:
        try:
            kind = stat.S_IFMT(path.lstat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if kind in _SPECIAL:
            raise InputError(
                f'{path} is {_SPECIAL[kind]}, which is neither read nor written: remove it, or give '
                'another folder'
            )


def read_object(path: Path, advice: str, depth: int | None = MAX_JSON_DEPTH) -> dict[str, Any]:
    """The JSON object in a file; without one an InputError, which ends with ``advice`` on what to do.

    Args:
        depth: how many levels of objects and lists are allowed; None, for a large file, is not checked.
    """
    refuse_special_files([Path(os.path.realpath(path))])  # the user may name a link
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(f'{path} cannot be read ({error.strerror}): {advice}') from None
    return parse_object(text, str(path), advice, depth)


def parse_object(
    text: str | bytes, place: str, advice: str, depth: int | None = MAX_JSON_DEPTH
) -> dict[str, Any]:
    """The JSON object in ``text``, which was read from ``place``; see :func:`read_object`."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f'{place} cannot be read ({error}): {advice}') from None
    if not isinstance(value, dict):
        raise InputError(f'{place} holds a {type(value).__name__}, not an object: {advice}')
    if depth is not None and _is_deeper(value, depth):
        raise InputError(f'{place} is nested more than {depth} levels deep: {advice}')
    return value


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether lists and dicts are nested more than ``levels`` deep."""
    level = [value]
    for _ in range(levels):
        inner: list[Any] = []
        for item in level:
            inner += item.values() if isinstance(item, dict) else item
        level = [item for item in inner if isinstance(item, dict | list)]
    return bool(level)


def first_difference(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> str | None:
    """The first key with different values, and both values, in words; None if there is none.

    Nested keys are dotted, missing keys count as None, and keys are compared in the order of ``mine``.
    """
    there, here = dict(_flat(theirs)), dict(_flat(mine))
    for key in {**here, **there}:
        if there.get(key) != here.get(key):
            return f'{key} is {there.get(key)!r} there and {here.get(key)!r} here'
    return None


def _flat(value: Any, prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values."""
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        items = enumerate(value)
    else:
        yield prefix, value
    for key, item in items:
        yield from _flat(item, f'{prefix}.{key}' if prefix else str(key))
