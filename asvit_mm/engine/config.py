"""Reading a config and checking it before anything expensive is built.

Every mistake of the user's becomes one :class:`~asvit_mm.errors.InputError`, early.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from ..checkpoints.reading import secure_mmengine
from ..errors import InputError

SHIPPED = 'mmdet::'
# The commands that write the data of shipped configs, by the names of the folders that they are in.
DATA_COMMANDS = {
    'digits': 'python -m asvit_mm.data.image_sets digits',
    'mnist5k': 'python -m asvit_mm.data.image_sets mnist5k',
    'scenes': 'python -m asvit_mm.data.scenes',
}


def find_config(name: str) -> str:
    """The path of a config that is given as a path or as ``mmdet::FOLDER/NAME.py``.

    MMEngine's own ``get_config`` is not used because it installs missing packages.

    Raises:
        InputError: mmdet is not installed, or ships no such config.
    """
    if '::' not in name:
        return name
    if not name.startswith(SHIPPED):
        raise InputError(
            f'{name!r}: no such source of configs; give a path or {SHIPPED}FOLDER/NAME.py'
        )
    folder = mmdet_configs()
    path = folder / name.removeprefix(SHIPPED)
    if not path.is_file():
        raise InputError(f'{name!r}: mmdet ships no such config below {folder}')
    return str(path)


def mmdet_configs() -> Path:
    """The folder of the configs that mmdet ships.

    Raises:
        InputError: mmdet is not installed.
    """
    spec = find_spec('mmdet')
    if spec is None or spec.origin is None:
        raise InputError("mmdet's models need mmdet, which is not installed")
    return Path(spec.origin).parent / '.mim' / 'configs'


def load_config(path: str | os.PathLike[str], options: Mapping[str, Any] | None = None) -> Config:
    """Read an MMEngine config and merge ``options`` (dotted keys, as ``--cfg-options`` has them).

    From then on no checkpoint that it names runs code
    (:func:`~asvit_mm.checkpoints.reading.secure_mmengine`).

    Raises:
        InputError: no such file, not a config, a base that does not resolve, or options that do not
            fit the config.
    """
    secure_mmengine()
    path = Path(path)
    if not path.is_file():
        raise InputError(f'config {str(path)!r} does not exist: give the path of a config file')
    # A config is a program: whatever it raises is the config's mistake.
    try:
        cfg = Config.fromfile(path)
    except Exception as error:
        raise InputError(f'config {str(path)!r} cannot be read: {one_line(error)}') from error
    merge_options(cfg, options or {}, repr(str(path)))
    if any(key.split('.')[0] == 'custom_imports' for key in options or {}):
        # MMEngine does so only for the custom_imports in the file.
        try:
            import_modules_from_strings(**cfg.custom_imports)
        except Exception as error:
            raise InputError(f'custom_imports cannot be imported: {one_line(error)}') from error
    return cfg


def merge_options(cfg: Config, options: Mapping[str, Any], name: str) -> None:
    """Merge ``options`` (dotted keys) into the config called ``name``.

    Raises:
        InputError: they do not fit.
    """
    try:
        cfg.merge_from_dict(dict(options))
    except (KeyError, TypeError, AssertionError, IndexError) as error:
        raise InputError(f'--cfg-options do not fit {name}: {one_line(error)}') from error


def require(cfg: Config, fields: Sequence[str], purpose: str) -> None:
    """Check that a config has all of ``fields``, which ``purpose`` needs.

    Raises:
        InputError: names the first field that is missing or None.
    """
    for field in fields:
        if cfg.get(field) is None:
            name = cfg.filename or 'the config'
            raise InputError(f'{name} has no {field!r}, which {purpose} needs')


def is_detector(cfg: Config) -> bool:
    """Whether it is a config of mmdet, hence of a detector."""
    return cfg.get('default_scope') == 'mmdet'


def check_classifier(cfg: Config, path: str | os.PathLike[str]) -> None:
    """Check that a config is one of mmpretrain; images and labels of other codebases differ.

    Raises:
        InputError: names the codebase.
    """
    scope = cfg.get('default_scope', 'mmpretrain')
    if scope != 'mmpretrain':
        raise InputError(f'{str(path)!r} is a config of {scope}: give one of mmpretrain')


def check_data(cfg: Config, loaders: Sequence[str]) -> None:
    """Check that the local data folders and annotation files of a config exist and are not empty.

    Storage addresses (``s3://`` and the like) are not checked.

    Args:
        cfg: the config.
        loaders: the data loaders that will be used, e.g. ``['train_dataloader']``.

    Raises:
        InputError: names the path, the field that holds it and what to do.
    """
    for loader in loaders:
        if cfg.get(loader) is None or cfg[loader].get('dataset') is None:
            continue
        for field, dataset in _datasets(f'{loader}.dataset', cfg[loader]['dataset']):
            _check_dataset(field, dataset)


def _datasets(field: str, dataset: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """A dataset's config and those of the datasets that it wraps, each with its dotted field."""
    if not isinstance(dataset, Mapping):
        return
    yield field, dataset
    yield from _datasets(f'{field}.dataset', dataset.get('dataset'))
    for i, inner in enumerate(dataset.get('datasets') or ()):
        yield from _datasets(f'{field}.datasets.{i}', inner)


def _check_dataset(field: str, dataset: Mapping[str, Any]) -> None:
    root = dataset.get('data_root') or ''
    if '://' in root or ':' in root.split('/')[0]:
        return
    if root:
        _check_path(f'{field}.data_root', Path(root), root)
    prefixes = dataset.get('data_prefix') or ''
    if isinstance(prefixes, str):
        prefixes = {'': prefixes}
    paths = {'data_prefix' + (f'.{key}' if key else ''): value for key, value in prefixes.items()}
    for name, path in {**paths, 'ann_file': dataset.get('ann_file')}.items():
        if isinstance(path, str) and path and '://' not in path:
            _check_path(f'{field}.{name}', Path(root) / path, root)


def _check_path(field: str, path: Path, root: str) -> None:
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        return
    state = 'is empty' if path.is_dir() else 'does not exist'
    command = DATA_COMMANDS.get(Path(root).name)
    hint = (
        f'write it with `{command} {root}`'
        if command
        else f'put the data there or give another path with --cfg-options {field}=PATH'
    )
    raise InputError(f'data path {str(path)!r} ({field}) {state}: {hint}')


def one_line(error: Exception) -> str:
    """Type and message of an error in one line."""
    return f'{type(error).__name__}: {" ".join(str(error).split())}'
