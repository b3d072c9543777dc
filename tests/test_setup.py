"""The repository's shell: requirements, pins, the model index, and what a wheel holds."""

import os
import re
import shlex
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import asvit_mm
from asvit_mm.ops import attention

from .pages import commands
from .wheels import build_wheel, copy_source, make_environment, names_in, pip, run

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
    'name',
    [
        *('runtime.txt', 'mminstall.txt', 'optional.txt', 'export.txt', 'docs.txt', 'tests.txt'),
        *('rotated.txt', 'segmentation.txt'),
    ],
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
        forked = 'mmcv mmcv-full mmdet mmengine mmpretrain mmrotate mmsegmentation openmim'
        assert not names & set(forked.split()), path


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
def test_wheel_holds_the_package_and_its_mim_folder(wheels: Path) -> None:
    """The second of two that were built in one tree: a file deleted in between is not in it."""
    source = wheels / 'source'
    (first,), (second,) = ((wheels / name).glob('*.whl') for name in ('first', 'second'))
    names = names_in(second)
    passing = {f'{mim}/.mim/configs/passing.py' for mim in ('asvit_mm', 'asvit_mim')}
    assert names_in(first) - names == passing | {'asvit_mm/passing.py'}

    assert {'asvit_mm/__init__.py', 'asvit_mm/.mim/model-index.yml'} <= names
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
    files = [path for path in (source / 'asvit_mm').rglob('*') if path.is_file()]
    assert {'py.typed', 'attention.cpp'} <= {path.name for path in files}
    assert {
        name for name in names if name.startswith('asvit_mm/') and not name.startswith('asvit_mm/.')
    } == {path.relative_to(source).as_posix() for path in files} | {
        'asvit_mm/analysis/bench_table.json'
    }
    assert not [name for name in names if name.startswith(('tests/', 'tools/', 'configs/'))]
    assert not (source / 'asvit_mm/.mim').exists(), 'the build left something in the source tree'


@pytest.mark.slow
def test_source_distribution_builds_the_same_wheel(wheels: Path, tmp_path: Path) -> None:
    source = copy_source(tmp_path / 'source')
    code = 'from setuptools.build_meta import build_sdist; build_sdist("../sdist")'
    run([sys.executable, '-c', code], cwd=source)
    (archive,) = (tmp_path / 'sdist').glob('*.tar.gz')
    (wheel,) = (wheels / 'second').glob('*.whl')
    assert names_in(build_wheel(archive, tmp_path / 'wheel')) == names_in(wheel)


@pytest.mark.slow
def test_editable_install_links_the_mim_folder(tmp_path: Path) -> None:
    source = copy_source(tmp_path / 'source')
    for _ in range(2):
        site = str(tmp_path / 'site')
        pip('install', '--upgrade', '--target', site, '--editable', str(source), cwd=tmp_path)
        for name in ('configs', 'tools', 'model-index.yml'):
            link = source / 'asvit_mm/.mim' / name
            assert link.is_symlink()
            assert link.resolve() == source / name


@pytest.mark.slow
def test_documented_pip_command_installs_what_works(tmp_path: Path) -> None:
    """In an environment of its own that sees, beside itself, what this one has: nothing is downloaded."""
    pages = ('README.md', 'docs/get_started.md')
    (command,) = {
        line for page in pages for line in commands(ROOT / page) if line.startswith('pip install')
    }
    source = copy_source(tmp_path / 'source')
    python, packages = make_environment(tmp_path / 'environment')
    pip, *arguments = shlex.split(command)
    offline = ['--no-index', '--no-build-isolation']
    run([sys.executable, '-m', pip, '--python', str(python), *arguments, *offline], cwd=source)
    code = (
        'from asvit_mm.ops import attention\n'
        'import asvit_mm.models\n'
        'from mmpretrain.registry import MODELS; MODELS.build(dict(type="asvit_mm.AsViT", arch="seed"))\n'
        'print(attention.has_kernel()); print(asvit_mm.__file__)'
    )
    shown = subprocess.run(
        [str(python), '-c', code],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': '', 'XDG_CACHE_HOME': str(tmp_path / 'cache')},
        capture_output=True,
        text=True,
        check=True,
    )
    kernel, where = shown.stdout.splitlines()[-2:]
    assert kernel == f'{attention.has_kernel()}'
    assert Path(where).is_relative_to(packages)
