"""C++ of this package, compiled once for a machine and kept in the user's cache, as torch.compile does.

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
from pathlib import Path

import torch

SWITCH = 'ASVIT_MM_NATIVE'
# Instructions by what torch has found the CPU to know: a cache may be shared by several machines.
INSTRUCTIONS = {
    'AVX2': ('-mavx2', '-mfma'),
    'AVX512': ('-mavx512f', '-mavx512bw', '-mavx512dq', '-mavx512vl', '-mfma'),
}
OPTIONS = ('-std=c++17', '-O3', '-ffp-contract=fast', '-fno-math-errno', '-fno-trapping-math')
LINKED = ('-fopenmp', '-shared', '-fPIC')


@functools.cache
def library(source: Path) -> ctypes.CDLL | None:
    """The functions of a C++ file, compiled if they are not in the cache.

    None, after a warning, where that fails, and without one where the environment says
    ``ASVIT_MM_NATIVE=0``. The cache is ``$XDG_CACHE_HOME/asvit_mm`` (``~/.cache/asvit_mm``); where it cannot
    be written, every process compiles for itself.
    """
    if os.environ.get(SWITCH, '1') == '0':
        return None
    command = [
        *shlex.split(os.environ.get('CXX', 'c++')),
        *OPTIONS,
        *INSTRUCTIONS.get(torch.backends.cpu.get_cpu_capability(), ()),
        *LINKED,
        str(source),
    ]
    try:
        cached = _cached(source, command)
        if cached is not None:
            return cached
        with tempfile.TemporaryDirectory() as folder:
            return ctypes.CDLL(str(_compile(command, Path(folder) / source.stem)))
    except (OSError, subprocess.CalledProcessError) as error:
        said = (getattr(error, 'stderr', None) or str(error)).strip().splitlines()
        warnings.warn(
            f'{source.stem} runs through torch alone, which is slower: {source.name} is not compiled by '
            f'{command[0]} ({said[-1] if said else "no message"}); install GCC or Clang with OpenMP, or name '
            f'one in CXX, or set {SWITCH}=0 to do without',
            RuntimeWarning,
            stacklevel=2,
        )
        return None


def _cached(source: Path, command: list[str]) -> ctypes.CDLL | None:
    """From the cache, or compiled into it; None where there can be none."""
    key = repr((platform.machine(), command[:-1], source.read_bytes())).encode()
    name = f'{source.stem}-{hashlib.sha256(key).hexdigest()[:16]}.so'
    try:
        folder = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'asvit_mm'
        folder.mkdir(parents=True, exist_ok=True)
        # Processes that compile at the same time each write a file of their own; the last rename stays.
        scratch = tempfile.TemporaryDirectory(dir=folder)
    except (OSError, RuntimeError):  # the latter where nobody has a home
        return None
    with scratch:
        if (folder / name).exists():
            try:
                return ctypes.CDLL(str(folder / name))
            except OSError:  # cut off, or of a machine with other libraries: made anew
                pass
        return ctypes.CDLL(str(_compile(command, Path(scratch.name) / name).replace(folder / name)))


def _compile(command: list[str], target: Path) -> Path:
    subprocess.run([*command, '-o', str(target)], check=True, capture_output=True, text=True)
    return target
