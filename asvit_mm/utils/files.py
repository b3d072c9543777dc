"""Files that are written whole or not at all: into a temporary sibling, then renamed."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import InputError


def atomic_write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write ``text`` to ``path``, creating its folder; a reader sees the old file or the new one."""
    return atomic_write_bytes(path, text.encode('utf-8'))


def atomic_write_bytes(path: str | os.PathLike[str], data: bytes) -> Path:
    """Write ``data`` to ``path``, creating its folder; a reader sees the old file or the new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
    try:
        with os.fdopen(handle, 'wb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def atomic_write_json(path: str | os.PathLike[str], value: Any) -> Path:
    """Write ``value`` as indented JSON; NaN is refused, since no other JSON reader takes it."""
    return atomic_write_text(path, json.dumps(value, indent=2, allow_nan=False) + '\n')


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path of the same name in a temporary folder; the file there becomes ``path`` on success.

    For writers that want a path. Folders of ``path`` that are not there are created then.
    """
    path = Path(path)
    with tempfile.TemporaryDirectory(dir=existing_folder(path), prefix=f'.{path.name}.') as folder:
        temporary = Path(folder) / path.name
        yield temporary
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary, path)


@contextmanager
def atomic_directory(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder beside ``path`` that becomes ``path`` when the block succeeds.

    Raises:
        FileExistsError: ``path`` exists when the block ends and is not an empty folder.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f'.{path.name}.'))
    try:
        os.chmod(temporary, 0o777 & ~_umask())
        yield temporary
        if path.is_dir() and any(path.iterdir()):
            raise FileExistsError(f'{path} exists already')
        os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def relative(path: Path) -> str:
    """``path`` in its shortest form: relative if it is in the current directory, otherwise absolute."""
    # Symbolic links stay: .venv/bin/python is one, and what it points to is another interpreter.
    path = Path.cwd() / path
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def check_writable(path: Path, option: str = '--json') -> None:
    """Refuse a file that cannot be written, before it is computed; ``option`` names it.

    Raises:
        InputError: its folder cannot be written to.
    """
    folder = existing_folder(path)
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f'{option} {str(path)!r} cannot be written: give a file in another folder')


def existing_folder(path: Path) -> Path:
    """The innermost of what lies above ``path`` and is there."""
    return next(parent for parent in path.absolute().parents if parent.exists())


def _umask() -> int:
    """The process's file mode mask; reading it means setting it, hence the second call."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
