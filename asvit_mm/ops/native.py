"""Compiles the package's C++ on first use and keeps the result in the user's cache, as torch.compile does.

Without a compiler everything runs through torch's own operations.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import subprocess
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path

import torch

from ..utils.files import atomic_write_bytes

SWITCH = 'ASVIT_MM_NATIVE'
# Compiler flags by the instruction set that torch detects; not -march=native, as machines may share a cache.
INSTRUCTIONS = {
    'AVX2': ('-mavx2', '-mfma'),
    'AVX512': ('-mavx512f', '-mavx512bw', '-mavx512dq', '-mavx512vl', '-mfma'),
}
OPTIONS = ('-std=c++17', '-O3', '-ffp-contract=fast', '-fno-math-errno', '-fno-trapping-math')
LINKED = ('-fopenmp', '-shared', '-fPIC')


@functools.cache
def library(source: Path) -> ctypes.CDLL | None:
    """The shared library of a C++ file, compiled unless it is in the cache.

    None, after a warning, if compiling fails, and without one if ``ASVIT_MM_NATIVE=0`` is set. The cache is
    ``$XDG_CACHE_HOME/asvit_mm`` (``~/.cache/asvit_mm``); where it cannot be written, or others can write it
    too, every process compiles for itself.
    """
    if os.environ.get(SWITCH, '1') == '0':
        return None
    compiler = os.environ.get('CXX') or 'c++'
    try:
        command = [
            *shlex.split(compiler),
            *OPTIONS,
            *INSTRUCTIONS.get(torch.backends.cpu.get_cpu_capability(), ()),
            *LINKED,
            str(source),
        ]
        return _load(source, command)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        said = (getattr(error, 'stderr', None) or str(error)).strip().splitlines()
        reason = next(
            (line for line in said if 'error' in line), said[-1] if said else 'no message'
        )
        warnings.warn(
            f'{source.stem} runs through torch alone, which is slower: {source.name} is not compiled by '
            f'{compiler} ({reason}); install GCC or Clang with OpenMP, or name one in CXX, or set {SWITCH}=0 '
            'to do without',
            RuntimeWarning,
            stacklevel=2,
        )
        return None


def _load(source: Path, command: list[str]) -> ctypes.CDLL:
    """The library from the cache, or else compiled, and put into the cache if that can be written."""
    cached = _cache_file(source, command)
    if cached is not None and _is_whole(cached):
        with suppress(OSError):  # from a machine with other system libraries: compile it again
            return ctypes.CDLL(str(cached))
    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder) / source.stem
        subprocess.run([*command, '-o', str(compiled)], check=True, capture_output=True, text=True)
        if cached is not None:
            content = compiled.read_bytes()
            with suppress(OSError):
                # Processes that compile at the same time all write equivalent files; the last one stays.
                atomic_write_bytes(cached, content + hashlib.sha256(content).digest()).chmod(0o600)
                return ctypes.CDLL(str(cached))
        return ctypes.CDLL(str(compiled))


def _cache_file(source: Path, command: list[str]) -> Path | None:
    """The cache file for ``command``; None without a folder that only the user can write."""
    texts = [path.read_bytes() for path in (source, *sorted(source.parent.glob('*.h')))]
    key = repr((platform.machine(), command[:-1], texts)).encode()
    name = f'{source.stem}-{hashlib.sha256(key).hexdigest()[:16]}.so'
    try:
        folder = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'asvit_mm'
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except (OSError, RuntimeError):  # a RuntimeError if the user has no home directory
        return None
    return folder / name if _is_own(status) else None


def _is_whole(path: Path) -> bool:
    """Whether a cached file is the user's own and ends with the hash of its content (ignored by the loader).

    Loading a truncated library would end the process.
    """
    try:
        content, status = path.read_bytes(), path.stat()
    except OSError:
        return False
    size = hashlib.sha256().digest_size
    return _is_own(status) and hashlib.sha256(content[:-size]).digest() == content[-size:]


def _is_own(status: os.stat_result) -> bool:
    """Whether it is the user's, and nobody else can write it."""
    return not hasattr(os, 'getuid') or (
        status.st_uid == os.getuid() and not status.st_mode & 0o022
    )
