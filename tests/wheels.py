"""The package as users install it: built once per session, in environments that download nothing."""

import os
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from importlib import metadata

from filelock import FileLock

from .pages import ROOT


def run(command, cwd):
    """Run a command without this tree on the path; fails where it does."""
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': ''}
    )
    assert done.returncode == 0, done.stdout + done.stderr


def pip(command, *arguments, cwd):
    options = ['--no-build-isolation', '--no-deps', *map(str, arguments)]
    run([sys.executable, '-m', 'pip', command, *options], cwd)


def copy_source(target):
    """Copy what git would: the tracked files and the new ones that it does not ignore."""
    command = ['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard']
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split('\0')):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)
    return target


def build_wheel(source, target):
    """Build a wheel with pip; its path."""
    pip('wheel', '--no-index', '--wheel-dir', target, source, cwd=source.parent)
    (wheel,) = target.glob('asvit_mm-*.whl')
    return wheel


def names_in(wheel):
    """The names in a wheel outside its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if '.dist-info/' not in name}


def built_once(factory):
    """A folder with ``source``, a copy of the repository, and the wheels that were built in it in turn.

    ``first`` has two modules more, which were deleted before ``second`` was built. The processes of
    pytest-xdist share the folder.
    """
    base = factory.getbasetemp()
    folder = (base.parent if 'PYTEST_XDIST_WORKER' in os.environ else base) / 'wheels'
    with FileLock(f'{folder}.lock'):
        if not (folder / 'second').exists():
            source = copy_source(folder / 'source')
            passing = [source / 'asvit_mm/passing.py', source / 'configs/passing.py']
            for path in passing:
                path.touch()
            build_wheel(source, folder / 'first')
            for path in passing:
                path.unlink()
            build_wheel(source, folder / 'second')
    return folder


def make_environment(folder):
    """An environment that sees, beside its own packages, what this one has: its Python and its packages."""
    venv.create(folder, with_pip=False)
    packages = next(folder.rglob('site-packages'))
    (packages / 'dependencies.pth').write_text('\n'.join(site.getsitepackages()) + '\n')
    if 'opencv-python-headless' in {one.name for one in metadata.distributions()}:
        # OpenCV is here as its twin without a screen, of the same modules (tools/misc/install.py).
        opencv = metadata.version('opencv-python-headless')
        twin = packages / f'opencv_python-{opencv}.dist-info'
        twin.mkdir()
        text = f'Metadata-Version: 2.1\nName: opencv-python\nVersion: {opencv}\n'
        (twin / 'METADATA').write_text(text)
    return folder / ('Scripts/python.exe' if os.name == 'nt' else 'bin/python'), packages
