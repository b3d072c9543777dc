"""Build the project's environment ``.venv``: ``python3 tools/misc/install.py``, or ``make install``.

Needs nothing but Python's standard library and, where no prebuilt mmcv is to be had, a C++
compiler. Every step looks at what is there before it works, so that a second run does nothing and
an interrupted one goes on where it stopped. pip's output goes to ``.venv/install.log``.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / '.venv'
PYTHON = VENV / ('Scripts/python.exe' if os.name == 'nt' else 'bin/python')
STAMP = VENV / 'asvit_mm-installed'
LOG = VENV / 'install.log'
CONSTRAINTS = ROOT / 'requirements' / 'constraints.txt'

OLDEST, NEWEST = (3, 10), (3, 13)
DISK_BYTES = 10 * 1024**3
MODULES = ('torch', 'torchvision', 'mmengine', 'mmcv._ext', 'mmdet', 'mmpretrain', 'asvit_mm')


class InstallError(Exception):
    """The environment cannot be built; the message is one line: what is wrong and what to do.

    Args:
        message: that line.
        output: the last lines that the failed command wrote.
    """

    def __init__(self, message: str, output: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.output = output


def main() -> int:
    """Build the environment; return 0, 1 after a clear line, or 130 after Ctrl-C."""
    argparse.ArgumentParser(
        description='Build .venv with the pinned requirements, for the interpreter that runs this.'
    ).parse_args()
    try:
        install()
    except InstallError as error:
        for line in error.output:
            print(f'    | {line}', file=sys.stderr)
        print(f'error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('interrupted; the same command goes on from here', file=sys.stderr)
        return 130
    return 0


def install() -> None:
    """Run every step, unless the stamp says that this very environment is finished."""
    check_venv_version()
    if PYTHON.exists() and STAMP.exists() and STAMP.read_text() == environment_key():
        return
    print(f'building {VENV.name} (about 8 GB, minutes; details in {LOG.relative_to(ROOT)})')
    begun = time.monotonic()
    step('virtual environment', make_venv)
    STAMP.unlink(missing_ok=True)
    step('pip, setuptools, ninja', lambda: pip('install', 'pip', 'setuptools', 'wheel', 'ninja'))
    step('torch and torchvision', install_torch)
    step('pinned requirements', install_requirements)
    step('OpenCV without a screen', install_headless_opencv)
    step('mmcv with its operators', install_mmcv)
    step('asvit_mm, editable', install_package)
    step('imports', check_imports)
    STAMP.write_text(environment_key())
    print(f'{VENV.name} is ready after {time.monotonic() - begun:.0f} s')


def step(name: str, work: Callable[[], None]) -> None:
    """Run one step of the installation with its name and its seconds on a line."""
    print(f'  {name} ...', end='', flush=True)
    begun = time.monotonic()
    try:
        work()
    except BaseException:
        print(flush=True)  # what follows begins a line of its own
        raise
    print(f' {time.monotonic() - begun:.0f} s')


def check_interpreter() -> None:
    """Refuse a Python that the pins do not cover, or one that cannot make environments."""
    version = sys.version_info[:2]
    if not OLDEST <= version <= NEWEST:
        raise InstallError(
            f'Python {dotted(version)} is not supported, {dotted(OLDEST)} to {dotted(NEWEST)} are; '
            'choose one: PYTHON=python3.12 make ...'
        )
    if not all(importlib.util.find_spec(name) for name in ('ensurepip', 'venv')):
        raise InstallError(
            'this Python cannot make virtual environments; install its venv package (Debian and '
            f'Ubuntu: apt-get install python{dotted(version)}-venv) and run the command again'
        )


def check_venv_version() -> None:
    """Refuse an interpreter chosen by PYTHON that is not the one of the ``.venv`` that is there.

    A ``python3`` that merely comes first on the path today is no reason to delete gigabytes.
    """
    asked, present = dotted(sys.version_info[:2]), venv_version()
    if 'PYTHON' in os.environ and present and not present.startswith(f'{asked}.'):
        raise InstallError(
            f'{VENV.name} was made with Python {present}, PYTHON is {asked}: run "make distclean" '
            'to begin anew, or leave PYTHON out'
        )


def dotted(version: tuple[int, ...]) -> str:
    """Write (3, 12) as 3.12."""
    return '.'.join(map(str, version))


def venv_version() -> str:
    """Return the Python version that ``.venv`` was made with, '' where it does not say."""
    try:
        lines = (VENV / 'pyvenv.cfg').read_text().splitlines()
    except FileNotFoundError:
        return ''
    fields = dict(line.split(' = ', 1) for line in lines if ' = ' in line)
    return fields.get('version', '')


def environment_key() -> str:
    """Return the hash of all that decides what is in the environment, and where it is."""
    digest = hashlib.sha256(f'{ROOT}\n{venv_version()}\n'.encode())
    files = [Path(__file__), ROOT / 'setup.py', ROOT / 'pyproject.toml']
    for path in files + sorted((ROOT / 'requirements').glob('*.txt')):
        digest.update(path.name.encode() + b'\0' + path.read_bytes())
    return digest.hexdigest()


def make_venv() -> None:
    """Create ``.venv``, or keep the one that is there if its Python and its pip run."""
    remove_half_installed()
    if PYTHON.exists() and runs('import pip'):
        return
    check_interpreter()
    free = shutil.disk_usage(ROOT).free
    if free < DISK_BYTES:
        raise InstallError(
            f'{free / 1024**3:.1f} GB are free in {ROOT}, about {DISK_BYTES / 1024**3:.0f} GB are '
            'needed: free some'
        )
    result = subprocess.run(
        [sys.executable, '-m', 'venv', '--clear', VENV],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if result.returncode:
        lines = result.stdout.strip().splitlines() or ['no output']
        raise InstallError(f'python -m venv failed: {lines[-1]}')


def remove_half_installed() -> None:
    """Remove the metadata of what pip was unpacking when killed, so that it is installed anew.

    pip writes a package's RECORD last, but takes the package for installed without one.
    """
    for metadata in VENV.glob('[Ll]ib/**/site-packages/*.dist-info'):
        if not (metadata / 'RECORD').exists():
            shutil.rmtree(metadata)


def install_torch() -> None:
    """Install torch and torchvision, of the two versions that fit each other."""
    pip('install', pinned('torch'), pinned('torchvision'))


def install_requirements() -> None:
    """Install what the project and its tests need, all but mmcv, which has a step of its own."""
    arguments = []
    for line in (ROOT / 'requirements/mminstall.txt').read_text().splitlines():
        if line and not line.startswith(('#', 'onedl-mmcv')):
            arguments.append(line)
    pip('install', '-r', 'requirements/runtime.txt', '-r', 'requirements/tests.txt', *arguments)


def install_mmcv() -> None:
    """Install onedl-mmcv such that ``mmcv._ext`` imports: prebuilt, else built here, once.

    A plain pip would build it in isolation from torch, which leaves the operators out without a
    word. Its dependencies are those of MMEngine and the others, installed before; it goes in
    without them, or opencv-python would come back.
    """
    requirement = pinned('onedl-mmcv')
    if runs('import mmcv.ops', version_of=requirement):
        return
    options = [requirement, '--no-deps', '--force-reinstall']
    # mim knows OneDL's own index; wheels only, so that it cannot fall back to a build of its own.
    limits = ['--only-binary=onedl-mmcv', '--retries=0', '--timeout=10']
    found = run([PYTHON, '-m', 'mim', 'install', *options, *limits], check=False)
    if found and runs('import mmcv.ops'):
        return
    torch_version = pinned('torch').partition('==')[2]
    print(
        "\n    building mmcv's C++ operators from source: 10 to 15 minutes on two cores, once, or "
        f"seconds where pip's cache has them; no prebuilt wheel for Python {venv_version()} / "
        f'torch {torch_version} was reachable ...',
        end='',
        flush=True,
    )
    if not any(shutil.which(name) for name in (os.environ.get('CXX', 'c++'), 'g++', 'clang++')):
        raise InstallError(
            "no C++ compiler to build mmcv's operators with; install one (Debian and Ubuntu: "
            'apt-get install g++) and run the command again'
        )
    for _ in range(2):
        pip('install', '--no-build-isolation', *options, environment=build_environment())
        if runs('import mmcv.ops'):
            return
        # pip's cache does not know which torch, if any, a wheel was built with: once more without.
        run([PYTHON, '-m', 'pip', 'cache', 'remove', 'onedl_mmcv'], check=False)
    raise InstallError(
        f'mmcv was built, but its operators do not import: see the end of {LOG.relative_to(ROOT)}'
    )


def build_environment() -> dict[str, str]:
    """Return the variables for building mmcv: all cores, no debug symbols, CUDA only with nvcc."""
    variables = {'CFLAGS': '-g0', 'CXXFLAGS': '-g0', 'MAX_JOBS': str(os.cpu_count() or 1)}
    if not shutil.which('nvcc'):
        # mmcv's build asks torch for a GPU, and with one in sight it insists on nvcc.
        variables['CUDA_VISIBLE_DEVICES'] = ''
    return variables


def install_headless_opencv() -> None:
    """Leave opencv-python-headless alone in place.

    mmcv asks for opencv-python and imaug for both. They share the folder ``cv2``, and the one with
    windows needs libGL, which a server lacks. ``pip check`` then misses opencv-python; nothing here
    opens a window.
    """
    windowed = runs('from importlib.metadata import version; version("opencv-python")')
    if not windowed and runs('import cv2', version_of=pinned('opencv-python-headless')):
        return
    pip('uninstall', '--yes', 'opencv-python')
    pip('install', '--force-reinstall', '--no-deps', 'opencv-python-headless')


def install_package() -> None:
    """Install this repository itself, in place."""
    pip('install', '--no-deps', '--no-build-isolation', '--editable', '.')


def check_imports() -> None:
    """Import every package that the tools import."""
    run([PYTHON, '-c', f'import {", ".join(MODULES)}'])


def pinned(name: str) -> str:
    """Return the line of the constraints file that pins ``name`` for every Python."""
    for line in CONSTRAINTS.read_text().splitlines():
        if line.startswith(f'{name}=='):
            return line.split(';')[0].strip()
    raise InstallError(f'{CONSTRAINTS.relative_to(ROOT)} does not pin {name}')


def pip(command: str, *arguments: str, environment: dict[str, str] | None = None) -> None:
    """Run pip in ``.venv`` under the constraints.

    Raises:
        InstallError: pip failed.
    """
    limits = ['--constraint', str(CONSTRAINTS)] if command == 'install' else []
    run([PYTHON, '-m', 'pip', command, *arguments, *limits], environment=environment)


def runs(code: str, version_of: str = '') -> bool:
    """Say whether ``code`` runs in ``.venv`` and ``version_of``, name==version, is installed."""
    if version_of:
        name, _, version = version_of.partition('==')
        code += (
            '\nfrom importlib.metadata import version'
            f'\nassert version({name!r}).split("+")[0] == {version!r}'
        )
    return run([PYTHON, '-c', code], check=False)


def run(
    command: list[str | Path], check: bool = True, environment: dict[str, str] | None = None
) -> bool:
    """Run a command with its output in the log.

    Returns whether it succeeded.

    Raises:
        InstallError: it failed, and ``check`` asks that it should not.
    """
    text = ' '.join(map(str, command))
    with LOG.open('a+', encoding='utf-8', errors='replace') as log:
        log.write(f'\n$ {text}\n')
        log.flush()
        begin = log.tell()
        code = subprocess.run(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
            env={**os.environ, 'PIP_DISABLE_PIP_VERSION_CHECK': '1', **(environment or {})},
        ).returncode
        if code and check:
            log.seek(begin)
            output = [line.rstrip() for line in log.readlines() if line.strip()]
            raise InstallError(
                f'"{text}" failed; its last lines are above, all of it is in '
                f'{LOG.relative_to(ROOT)}',
                output[-15:],
            )
    return code == 0


if __name__ == '__main__':
    sys.exit(main())
