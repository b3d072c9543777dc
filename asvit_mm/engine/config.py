"""Reading a config and checking it before anything expensive is built."""

import os
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.runner import Runner
from mmengine.utils import import_modules_from_strings

from ..checkpoints.reading import secure_mmengine
from ..errors import InputError, one_line

TOKEN_HOOK = 'asvit_mm.ProgressiveTokenizationHook'
# Commands that write the data of shipped configs, by the name of the folder that they write.
DATA_COMMANDS = {
    'digits': 'python -m asvit_mm.data.image_sets digits',
    'mnist5k': 'python -m asvit_mm.data.image_sets mnist5k',
    'scenes': 'python -m asvit_mm.data.scenes',
}
# What MMEngine's Runner reads of its settings without complaint about others.
_READ = {
    'default_hooks': (
        *('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint'),
        'visualization',
    ),
    # mmpretrain's, which takes any other argument for one of the visualizer.
    'default_hooks.visualization': ('enable', 'interval', 'show', 'out_dir'),
    'env_cfg': ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'),
    'env_cfg.dist_cfg': ('backend', 'timeout'),
    'auto_scale_lr': ('enable', 'base_batch_size'),
}
# The codebases whose configs are read, and how each is installed.
CODEBASES = {
    'mmdet': "pip install '.[mminstall]'",
    'mmrotate': "pip install '.[rotated]'",
    'mmseg': "pip install '.[segmentation]'",
}


class MissingCodebaseError(InputError):
    """A config inherits or needs what a codebase ships, and it is not installed."""

    def __init__(self, purpose: str, codebase: str) -> None:
        advice = CODEBASES.get(codebase, f'install {codebase}')
        super().__init__(f'{purpose} needs {codebase}, which is not installed: {advice}')


def name_sources() -> None:
    """Let ``_base_ = 'asvit_mm::...'`` and ``'mmseg::...'`` resolve in this process.

    MMEngine finds the configs of installed packages by a table from modules to distributions, which has not
    ours, and not the name under which OneDL distributes mmseg.
    """
    MODULE2PACKAGE.update(asvit_mm='asvit_mm', mmseg='mmseg')


def find_config(name: str) -> str:
    """The path of a config that is given as a path or as ``mmdet::FOLDER/NAME.py`` (mmseg, mmrotate).

    MMEngine's own ``get_config`` is not used because it installs missing packages.

    Raises:
        InputError: the codebase is not installed, or ships no such config.
    """
    package, separator, path = name.partition('::')
    if not separator:
        return name
    if package not in CODEBASES:
        sources = ', '.join(f'{codebase}::FOLDER/NAME.py' for codebase in CODEBASES)
        raise InputError(f'{name!r}: no such source of configs; give a path or {sources}')
    folder = shipped_configs(package)
    if not (folder / path).is_file():
        raise InputError(f'{name!r}: {package} ships no such config below {folder}')
    return str(folder / path)


def shipped_configs(codebase: str = 'mmdet') -> Path:
    """The folder of the configs that a codebase ships.

    Raises:
        MissingCodebaseError: it is not installed.
    """
    spec = find_spec(codebase)
    if spec is None or spec.origin is None:
        raise MissingCodebaseError(f'a model of {codebase}', codebase)
    return Path(spec.origin).parent / '.mim' / 'configs'


def load_config(path: str | os.PathLike[str], options: Mapping[str, Any] | None = None) -> Config:
    """Read an MMEngine config and merge ``options`` (dotted keys, as ``--cfg-options`` has them).

    One of the pure Python style, whose types are imported classes, becomes one with their names, and its
    default scope is the package of its model if it has none.

    From then on no checkpoint that it names runs code
    (:func:`~asvit_mm.checkpoints.reading.secure_mmengine`).

    Raises:
        InputError: no such file, not a config, a base that does not resolve, or options that do not
            fit the config; a MissingCodebaseError where a base is that of a codebase which is not installed.
    """
    secure_mmengine()
    name_sources()
    path = Path(path)
    if not path.is_file():
        raise InputError(f'config {str(path)!r} does not exist: give the path of a config file')
    # A config is Python code: whatever it raises is an error of the config.
    try:
        cfg = Config.fromfile(path, import_custom_modules=False)
        if is_pure_python(path):
            cfg = Config(cfg.to_dict(), filename=cfg.filename)
            if not cfg.get('default_scope') and isinstance(cfg.get('model'), dict):
                cfg.default_scope = str(cfg.model.get('type')).partition('.')[0]
    except ModuleNotFoundError as error:
        missing = re.match(r'(\w+) is not installed', str(error))
        if missing is None:
            raise InputError(f'config {str(path)!r} cannot be read: {one_line(error)}') from error
        raise MissingCodebaseError(f'config {str(path)!r}', missing[1]) from error
    except Exception as error:
        raise InputError(f'config {str(path)!r} cannot be read: {one_line(error)}') from error
    merge_options(cfg, options or {}, repr(str(path)))
    try:
        if imports := cfg.get('custom_imports'):
            import_modules_from_strings(**imports)
    except Exception as error:
        raise InputError(f'custom_imports cannot be imported: {one_line(error)}') from error
    return cfg


def is_pure_python(path: str | os.PathLike[str]) -> bool:
    """Whether a config has the style of ``read_base()`` and imported types, without ``_base_``."""
    path = Path(path)
    return path.suffix == '.py' and path.is_file() and bool(Config._is_lazy_import(str(path)))


def merge_options(cfg: Config, options: Mapping[str, Any], name: str) -> None:
    """Merge ``options`` (dotted keys) into the config called ``name``; an InputError if they do not fit."""
    try:
        cfg.merge_from_dict(dict(options))
    except Exception as error:  # whatever MMEngine raises is about the options
        raise InputError(f'--cfg-options do not fit {name}: {one_line(error)}') from error


def require(cfg: Config, fields: Sequence[str], purpose: str) -> None:
    """Raise an InputError if one of ``fields``, which ``purpose`` needs, is missing from a config or None."""
    name = cfg.filename or 'the config'
    for field in fields:
        if cfg.get(field) is None:
            close = get_close_matches(field, [key for key in cfg if key not in fields])
            hint = f': did you mean it by {close[0]!r}?' if close else ''
            raise InputError(f'{name} has no {field!r}, which {purpose} needs{hint}')


def report_ignored(cfg: Config) -> None:
    """Print which fields of a config nothing reads, though their names are close to those that are read."""
    read = [*signature(Runner).parameters, 'auto_scale_lr', 'custom_imports']
    for owner, names in (('', read), *_READ.items()):
        section: Any = cfg._cfg_dict
        for part in filter(None, owner.split('.')):
            section = section.get(part) if isinstance(section, Mapping) else None
        for key in section if isinstance(section, Mapping) else ():
            close = get_close_matches(str(key), names, n=1, cutoff=0.85) if key not in names else []
            # A base config sets what the misspelt one is meant to override.
            inherits = owner == 'default_hooks.visualization'
            if close and (inherits or section.get(close[0]) is None):
                name, key = cfg.filename or 'the config', f'{owner}.{key}'.lstrip('.')
                print(f'note: nothing reads {key!r} of {name}: did you mean {close[0]!r}?')


def preprocessor_settings(cfg: Config) -> dict[str, Any]:
    """The settings of a config's data preprocessor: the model's own come first, as in MMEngine's Runner."""
    found = {**cfg, **(cfg.get('model') or {})}.get('data_preprocessor')
    return dict(found or {})


def is_detector(cfg: Config) -> bool:
    """Whether it is a config of mmdet or mmrotate, hence of a detector."""
    return cfg.get('default_scope') in ('mmdet', 'mmrotate')


def is_segmentor(cfg: Config) -> bool:
    """Whether it is a config of mmseg, hence of a model of semantic segmentation."""
    return cfg.get('default_scope') == 'mmseg'


def is_token_hook(hook: Mapping[str, Any]) -> bool:
    """Whether the config of a hook is that of progressive tokenization, in any scope or module."""
    return str(hook.get('type')).rpartition('.')[2] == TOKEN_HOOK.rpartition('.')[2]


def check_data(cfg: Config, loaders: Sequence[str]) -> None:
    """Check that the local data folders and annotation files of a config exist and are not empty.

    Storage addresses (``s3://`` and the like) are not checked.

    Args:
        loaders: names of the data loaders to check.

    Raises:
        InputError: names the path, the field that holds it and what to do.
    """
    for loader in loaders:
        _check_dataset(f'{loader}.dataset', (cfg.get(loader) or {}).get('dataset'))


def _check_dataset(field: str, dataset: Any) -> None:
    """Check the paths of a dataset and of those that it wraps."""
    if not isinstance(dataset, Mapping):
        return
    _check_dataset(f'{field}.dataset', dataset.get('dataset'))
    for i, inner in enumerate(dataset.get('datasets') or ()):
        _check_dataset(f'{field}.datasets.{i}', inner)
    root, prefix = dataset.get('data_root') or '', dataset.get('data_prefix')
    prefixes = prefix if isinstance(prefix, Mapping) else {'': prefix}
    paths = {f'data_prefix.{key}'.rstrip('.'): path for key, path in prefixes.items()}
    paths = {'data_root': '', **paths, 'ann_file': dataset.get('ann_file')}
    for name, path in paths.items():
        # A storage's address, such as s3://bucket, has a colon in its first part.
        local = os.path.join(root, path) if isinstance(path, str) else ''
        if local and ':' not in local.split('/')[0]:
            _check_path(f'{field}.{name}', Path(local), root)


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
