"""The repository's shell: requirements, pins, the model index, and what a wheel holds."""

import os
import re
import shlex
import site
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from itertools import product
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import asvit_mm
from asvit_mm.models import gelu
from asvit_mm.ops import attention

from .pages import commands

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / 'requirements'
PYTHONS = ('3.10', '3.11', '3.12', '3.13')


def requirements_of(name: str) -> list[Requirement]:
    text = (REQUIREMENTS / name).read_text()
    lines = (line.partition('#')[0].strip() for line in text.splitlines())
    return [Requirement(line) for line in lines if line]


def pins_for(python: str) -> dict[str, str]:
    """Name -> version of the constraints that apply under ``python``."""
    environment = {'python_version': python, 'python_full_version': f'{python}.0'}
    pins: dict[str, str] = {}
    for pin in requirements_of('constraints.txt'):
        if pin.marker is None or pin.marker.evaluate(environment):
            name = canonicalize_name(pin.name)
            assert name not in pins, f'{name} is pinned twice for Python {python}'
            (specifier,) = pin.specifier
            assert specifier.operator == '=='
            pins[name] = specifier.version
    return pins


@pytest.mark.parametrize('python', PYTHONS)
@pytest.mark.parametrize(
    'name', ['runtime.txt', 'mminstall.txt', 'optional.txt', 'docs.txt', 'tests.txt']
)
def test_every_requirement_has_a_pin_that_it_admits(name: str, python: str) -> None:
    pins = pins_for(python)
    for requirement in requirements_of(name):
        version = pins.get(canonicalize_name(requirement.name))
        assert version is not None, f'{requirement} has no pin'
        assert requirement.specifier.contains(version), f'{requirement} does not admit {version}'


def test_openmmlab_packages_come_from_their_forks() -> None:
    for path in REQUIREMENTS.glob('*.txt'):
        names = {canonicalize_name(requirement.name) for requirement in requirements_of(path.name)}
        assert not names & {'mmcv', 'mmcv-full', 'mmdet', 'mmengine', 'mmpretrain', 'openmim'}, path


def test_version_is_light_and_of_three_numbers() -> None:
    assert re.fullmatch(r'\d+\.\d+\.\d+', asvit_mm.__version__)
    code = 'import asvit_mm, sys; assert not {"torch", "mmengine"} & set(sys.modules)'
    subprocess.run([sys.executable, '-c', code], check=True, cwd=ROOT)


def test_changelog_has_this_version() -> None:
    assert f'## {asvit_mm.__version__}' in (ROOT / 'CHANGELOG.md').read_text()


def test_model_index_imports_metafiles_that_exist() -> None:
    imports = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
    assert imports
    for path in imports:
        assert (ROOT / path).is_file(), f'model-index.yml imports {path}, which does not exist'


@pytest.mark.slow
def test_wheel_holds_the_package_and_its_mim_folder(tmp_path: Path) -> None:
    """Built twice from one tree: a file deleted in between is in no later wheel."""
    source = tmp_path / 'source'
    copy_source(source)
    (source / 'asvit_mm/passing.py').touch()
    (source / 'configs/passing.py').touch()
    assert 'asvit_mm/passing.py' in build_wheel(source, tmp_path / 'first')

    (source / 'asvit_mm/passing.py').unlink()
    (source / 'configs/passing.py').unlink()
    names = build_wheel(source, tmp_path / 'second')

    assert {'asvit_mm/__init__.py', 'asvit_mm/py.typed', 'asvit_mm/.mim/model-index.yml'} <= names
    # The second copy is for mim, which takes the first folder of a distribution for its package.
    assert min(names).startswith('asvit_mim/')
    for package, folder in product(('asvit_mm', 'asvit_mim'), ('configs', 'tools')):
        expected = {
            f'{package}/.mim/{path.relative_to(source).as_posix()}'
            for path in (source / folder).rglob('*')
            if path.is_file()
        }
        assert expected
        assert {name for name in names if name.startswith(f'{package}/.mim/{folder}/')} == expected
    package = source / 'asvit_mm'
    files = [
        *package.rglob('*.py'),
        *package.rglob('*.cpp'),
        *package.rglob('*.h'),
        *package.rglob('*.j2'),
        *(package / 'weights').iterdir(),
    ]
    assert package / 'ops/attention.cpp' in files
    assert {
        name for name in names if name.startswith('asvit_mm/') and not name.startswith('asvit_mm/.')
    } == {path.relative_to(source).as_posix() for path in files} | {'asvit_mm/py.typed'}
    assert not [name for name in names if name.startswith(('tests/', 'tools/', 'configs/'))]
    assert not (source / 'asvit_mm/.mim').exists(), 'the build left something in the source tree'


@pytest.mark.slow
def test_source_distribution_builds_the_same_wheel(tmp_path: Path) -> None:
    source = tmp_path / 'source'
    copy_source(source)
    code = 'from setuptools.build_meta import build_sdist; build_sdist("../sdist")'
    run([sys.executable, '-c', code], cwd=source)
    (archive,) = (tmp_path / 'sdist').glob('*.tar.gz')
    assert build_wheel(archive, tmp_path / 'from_sdist') == build_wheel(source, tmp_path / 'wheel')


@pytest.mark.slow
def test_editable_install_links_the_mim_folder(tmp_path: Path) -> None:
    """After a wheel was built in the same tree, and into a folder of its own."""
    source = tmp_path / 'source'
    copy_source(source)
    build_wheel(source, tmp_path / 'wheel')
    for _ in range(2):
        site = str(tmp_path / 'site')
        pip('install', '--upgrade', '--target', site, '--editable', str(source), cwd=tmp_path)
        for name in ('configs', 'tools', 'model-index.yml'):
            link = source / 'asvit_mm/.mim' / name
            assert link.is_symlink()
            assert link.resolve() == source / name


@pytest.mark.slow
@pytest.mark.parametrize('page', ['README.md', 'docs/get_started.md'])
def test_documented_pip_command_installs_what_works(page: str, tmp_path: Path) -> None:
    """In an environment of its own that sees, beside itself, what this one has: nothing is downloaded."""
    (command,) = (line for line in commands(ROOT / page) if line.startswith('pip install'))
    source, environment = tmp_path / 'source', tmp_path / 'environment'
    copy_source(source)
    venv.create(environment, with_pip=False)
    python = environment / ('Scripts/python.exe' if os.name == 'nt' else 'bin/python')
    packages = next(environment.rglob('site-packages'))
    (packages / 'dependencies.pth').write_text('\n'.join(site.getsitepackages()) + '\n')
    if 'opencv-python-headless' in {one.name for one in metadata.distributions()}:
        # OpenCV is here as its twin without a screen, of the same modules (tools/misc/install.py).
        opencv = metadata.version('opencv-python-headless')
        twin = packages / f'opencv_python-{opencv}.dist-info'
        twin.mkdir()
        (twin / 'METADATA').write_text(
            f'Metadata-Version: 2.1\nName: opencv-python\nVersion: {opencv}\n'
        )
    pip, *arguments = shlex.split(command)
    offline = ['--no-index', '--no-build-isolation']
    run([sys.executable, '-m', pip, '--python', str(python), *arguments, *offline], cwd=source)
    code = (
        'import asvit_mm.models; from asvit_mm.models import gelu; from asvit_mm.ops import attention\n'
        'from mmpretrain.registry import MODELS; MODELS.build(dict(type="asvit_mm.AsViT", arch="seed"))\n'
        'print(attention.has_kernel(), gelu.has_kernel()); print(asvit_mm.__file__)'
    )
    shown = subprocess.run(
        [str(python), '-c', code],
        cwd=tmp_path,
        env={**os.environ, 'XDG_CACHE_HOME': str(tmp_path / 'cache')},
        capture_output=True,
        text=True,
        check=True,
    )
    kernels, where = shown.stdout.splitlines()[-2:]
    assert kernels == f'{attention.has_kernel()} {gelu.has_kernel()}'
    assert Path(where).is_relative_to(packages)


def copy_source(target: Path) -> None:
    """Copy what git would: the tracked files and the new ones that it does not ignore."""
    listed = subprocess.run(
        ['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split('\0')):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((ROOT / name).read_bytes())


def build_wheel(source: Path, target: Path) -> set[str]:
    """Build a wheel with pip, no download; return the names in it outside its metadata."""
    pip('wheel', '--no-index', '--wheel-dir', str(target), str(source), cwd=source.parent)
    (wheel,) = target.glob('asvit_mm-*.whl')
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if '.dist-info/' not in name}


def pip(command: str, *arguments: str, cwd: Path) -> None:
    options = ['--no-build-isolation', '--no-deps', *arguments]
    run([sys.executable, '-m', 'pip', command, *options], cwd=cwd)


def run(command: list[str], cwd: Path) -> None:
    result = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': ''}
    )
    assert result.returncode == 0, result.stdout + result.stderr
