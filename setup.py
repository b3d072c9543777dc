"""Install ``asvit_mm`` together with its ``.mim`` folder, where MMEngine and mim look for configs and tools.

An editable install links ``asvit_mm/.mim`` to the repository's own folders; a wheel gets copies,
written into the build folder only, so that building a wheel leaves the source tree as it was.

A wheel has a second copy, ``asvit_mim/.mim``. mim takes the first path of an installed distribution for
its package, and pip sorts paths: ``asvit_mm-VERSION.dist-info`` comes before ``asvit_mm/``, so that
``mim ... asvit_mm`` would find nothing. ``asvit_mim`` comes before both.
"""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
MIM_ENTRIES = ('configs', 'tools', 'model-index.yml')
MIM_TWIN = 'asvit_mim'
# What a wheel gets a copy of inside the package.
COPIES = {'analysis/bench_table.json': 'docs/studies/bench/table.json'}


def get_version() -> str:
    """Return ``__version__`` of ``asvit_mm/version.py`` without importing the package."""
    scope: dict[str, str] = {}
    exec((ROOT / 'asvit_mm/version.py').read_text(encoding='utf-8'), scope)
    return scope['__version__']


def parse_requirements(name: str) -> list[str]:
    """Return the requirements of a file, with those of the files that it includes by ``-r``."""
    requirements = []
    for line in (ROOT / name).read_text(encoding='utf-8').splitlines():
        line = line.partition('#')[0].strip()
        if line.startswith('-r '):
            requirements += parse_requirements(line.removeprefix('-r ').strip())
        elif line:
            requirements.append(line)
    return requirements


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns('__pycache__', '*.py[cod]'))
    else:
        shutil.copy2(source, target)


def _link(source: Path, target: Path) -> None:
    try:
        target.symlink_to(Path('../..') / source.name)
    except OSError:  # Windows without the privilege to make links
        _copy(source, target)


class BuildPyWithMim(build_py):
    """Build the modules, then fill ``asvit_mm/.mim`` by links (editable) or copies (wheel)."""

    def run(self) -> None:
        package = ROOT / 'asvit_mm' if self.editable_mode else Path(self.build_lib) / 'asvit_mm'
        if not self.editable_mode:
            # setuptools keeps what an earlier build left here, files since deleted included
            _remove(package)
            _remove(package.with_name(MIM_TWIN))
        super().run()
        if not self.editable_mode:
            for place, source in COPIES.items():
                _copy(ROOT / source, package / place)
        twins = () if self.editable_mode else (package.with_name(MIM_TWIN),)
        for mim in (folder / '.mim' for folder in (package, *twins)):
            _remove(mim)
            mim.mkdir(parents=True)
            for entry in MIM_ENTRIES:
                (_link if self.editable_mode else _copy)(ROOT / entry, mim / entry)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        outputs = super().get_outputs(include_bytecode)
        build = Path(self.build_lib)
        copies = (build / package / '.mim' for package in ('asvit_mm', MIM_TWIN))
        outputs += [str(x) for x in (build / 'asvit_mm' / place for place in COPIES) if x.exists()]
        return outputs + [
            str(path) for mim in copies for path in sorted(mim.rglob('*')) if path.is_file()
        ]


if __name__ == '__main__':
    readme = ROOT / 'README.md'
    setup(
        name='asvit_mm',
        version=get_version(),
        description='As-ViT for OpenMMLab: training-free search and scaling of Vision Transformers',
        long_description=readme.read_text(encoding='utf-8') if readme.exists() else '',
        long_description_content_type='text/markdown',
        keywords='computer vision, vision transformer, neural architecture search, openmmlab',
        packages=find_packages(include=('asvit_mm', 'asvit_mm.*')),
        package_data={
            'asvit_mm': [
                'py.typed',
                'ops/*.cpp',
                'ops/*.h',
                'report/*.j2',
                'weights/*',
            ]
        },
        python_requires='>=3.10',
        classifiers=[
            'Development Status :: 4 - Beta',
            'Operating System :: OS Independent',
            'Programming Language :: Python :: 3',
            'Programming Language :: Python :: 3.10',
            'Programming Language :: Python :: 3.11',
            'Programming Language :: Python :: 3.12',
            'Programming Language :: Python :: 3.13',
            'Topic :: Scientific/Engineering :: Artificial Intelligence',
        ],
        license_expression='Apache-2.0',
        license_files=['LICENSE'],
        install_requires=parse_requirements('requirements/runtime.txt'),
        extras_require={
            'all': parse_requirements('requirements.txt'),
            'docs': parse_requirements('requirements/docs.txt'),
            'tests': parse_requirements('requirements/tests.txt'),
            'export': parse_requirements('requirements/export.txt'),
            'optional': parse_requirements('requirements/optional.txt'),
            'mminstall': parse_requirements('requirements/mminstall.txt'),
            'rotated': parse_requirements('requirements/rotated.txt'),
            'segmentation': parse_requirements('requirements/segmentation.txt'),
        },
        cmdclass={'build_py': BuildPyWithMim},
        zip_safe=False,
    )
