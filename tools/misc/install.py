"""Build the project's environment ``.venv``: ``python3 tools/misc/install.py``, or ``make install``.

Needs only Python's standard library and, if no prebuilt mmcv can be downloaded, a C++ compiler. Every step
checks what is there first, so a second run does nothing and an interrupted one resumes. pip's output goes to
``.venv/install.log``.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
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
    """The environment cannot be built: what is wrong and what to do, then a failed command's last lines."""


def main() -> int:
    """Build the environment; return 0, 1 after a clear line, or 130 after Ctrl-C."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    try:
        install()
    except InstallError as error:
        message, *output = error.args
        for line in output:
            print(f'    | {line}', file=sys.stderr)
        print(f'error: {message}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('interrupted; the same command goes on from here', file=sys.stderr)
        return 130
    return 0


def install() -> None:
    """Run every step, unless the stamp says that this environment is complete."""
    check_venv_version()
    if PYTHON.exists() and STAMP.exists() and STAMP.read_text() == environment_key():
        return
    print(f'building {VENV.name} (about 8 GB, minutes; details in {LOG.relative_to(ROOT)})')
    begun = time.monotonic()
    step('virtual environment', make_venv)
    STAMP.unlink(missing_ok=True)
    step('pip, setuptools, ninja', lambda: pip('install', 'pip', 'setuptools', 'wheel', 'ninja'))
    step(
        'torch and torchvision',
        lambda: pip('install', pinned('torch'), pinned('torchvision')),
    )
    step('pinned requirements', install_requirements)
    step('OpenCV without a screen', install_headless_opencv)
    step('mmcv with its operators', install_mmcv)
    package = ('--no-deps', '--no-build-isolation', '--editable', '.')
    step('asvit_mm, editable', lambda: pip('install', *package))
    step('imports', lambda: run([PYTHON, '-c', f'import {", ".join(MODULES)}']))
    STAMP.write_text(environment_key())
    print(f'{VENV.name} is ready after {time.monotonic() - begun:.0f} s')


def step(name: str, work: Callable[[], None]) -> None:
    """Run one step; print its name and its seconds on a line."""
    print(f'  {name} ...', end='', flush=True)
    begun = time.monotonic()
    try:
        work()
    except BaseException:
        print(flush=True)  # end the line
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
    """Refuse an interpreter chosen by PYTHON other than that of an existing ``.venv``."""
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
    """Return the Python version that ``.venv`` was made with, '' if unknown."""
    config = VENV / 'pyvenv.cfg'
    found = re.search(r'^version = (.+)', config.read_text(), re.M) if config.is_file() else None
    return found[1] if found else ''


def environment_key() -> str:
    """Return a hash of everything that determines the environment's content and place."""
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
    command = [sys.executable, '-m', 'venv', '--clear', VENV]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        lines = (result.stdout + result.stderr).strip().splitlines() or ['no output']
        raise InstallError(f'python -m venv failed: {lines[-1]}')


def remove_half_installed() -> None:
    """Remove the metadata of packages that pip was unpacking when killed, so that they are installed again.

    pip writes a package's RECORD last, but takes a package without one for installed.
    """
    for metadata in VENV.glob('[Ll]ib/**/site-packages/*.dist-info'):
        if not (metadata / 'RECORD').exists():
            shutil.rmtree(metadata)


def install_requirements() -> None:
    """Install what the project and its tests need, except mmcv, which has a step of its own."""
    lines = (ROOT / 'requirements/mminstall.txt').read_text().splitlines()
    openmmlab = [line for line in lines if line and not line.startswith(('#', 'onedl-mmcv'))]
    pip('install', '-r', 'requirements/runtime.txt', '-r', 'requirements/tests.txt', *openmmlab)


def install_mmcv() -> None:
    """Install onedl-mmcv with its operators: prebuilt, or else built here, once.

    Plain pip would build it in isolation from torch, which silently leaves the operators out. Its
    dependencies are installed already; with them, opencv-python would come back.
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
    """Return variables for building mmcv: all cores, no debug symbols, CUDA only with nvcc."""
    variables = {'CFLAGS': '-g0', 'CXXFLAGS': '-g0', 'MAX_JOBS': str(os.cpu_count() or 1)}
    if not shutil.which('nvcc'):
        # With a GPU in sight mmcv's build insists on nvcc.
        variables['CUDA_VISIBLE_DEVICES'] = ''
    return variables


def install_headless_opencv() -> None:
    """Replace opencv-python, which mmcv and imaug require, by opencv-python-headless.

    Both install the folder ``cv2``, but opencv-python needs libGL, which servers lack.
    """
    windowed = runs('from importlib.metadata import version; version("opencv-python")')
    if not windowed and runs('import cv2', version_of=pinned('opencv-python-headless')):
        return
    pip('uninstall', '--yes', 'opencv-python')
    pip('install', '--force-reinstall', '--no-deps', 'opencv-python-headless')


def pinned(name: str) -> str:
    """Return the line of the constraints file that pins ``name`` for every Python."""
    for line in CONSTRAINTS.read_text().splitlines():
        if line.startswith(f'{name}=='):
            return line.split(';')[0].strip()
    raise InstallError(f'{CONSTRAINTS.relative_to(ROOT)} does not pin {name}')


def pip(command: str, *arguments: str, environment: dict[str, str] | None = None) -> None:
    """Run pip in ``.venv`` under the constraints; InstallError if it fails."""
    limits = ['--constraint', str(CONSTRAINTS)] if command == 'install' else []
    run([PYTHON, '-m', 'pip', command, *arguments, *limits], environment=environment)


def runs(code: str, version_of: str = '') -> bool:
    """Whether ``code`` runs in ``.venv`` and ``version_of``, name==version, is installed."""
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
    """Run a command with its output in the log; return whether it succeeded.

    Raises:
        InstallError: it failed, and ``check`` is set.
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
            output = [line.rstrip() for line in log if line.strip()]
            raise InstallError(
                f'"{text}" failed; its last lines are above, all of it is in {LOG.relative_to(ROOT)}',
                *output[-15:],
            )
    return code == 0


if __name__ == '__main__':
    sys.exit(main())
