"""What the libraries raise where a config is wrong, in one line that names the part of the config.

MMEngine, mmpretrain and mmdet build whatever a config says and fail where its mistake first matters, often
far from it. The whole traceback is kept in the work dir.
"""

import os
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from types import FrameType
from typing import Any

import mmengine.registry
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import Registry, build_from_cfg
from mmengine.runner import Runner

from ..errors import InputError, is_full, one_line
from ..utils.files import atomic_write_text

TRACEBACK = 'traceback.txt'

_UNEXPECTED = re.compile(r"(\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '(\w+)'")
_MISSING = re.compile(r'missing \d+ required [\w-]+ arguments?: (.*)')
_UNKNOWN = re.compile(r'(\S+) is not in the [\w:. ]+ registry')
# Of a message of a library, which may show a whole config; the traceback has the rest.
_LENGTH = 300
_TRANSFORMED = Compose.__call__


@contextmanager
def config_failures(cfg: Config, doing: str, kept: Path | None = None) -> Iterator[None]:
    """Turn what is raised in the block into an :class:`InputError` that says what of ``cfg`` is wrong.

    A full disk keeps its OSError. The traceback of every other exception goes to traceback.txt in the work
    dir, of rank N to rankN_traceback.txt: it may be a defect of a library, or of the user's own module.

    Args:
        doing: what fails, for the message.
        kept: the file for the traceback (default: traceback.txt in the work dir).
    """
    try:
        yield
    except InputError as error:
        if not str(error).startswith('Caught '):
            raise
        # From a worker of a data loader, with its traceback for a message.
        raise InputError(one_line(error).partition(': ')[2]) from error
    except Exception as error:
        if is_full(error):
            raise
        where = ''
        with suppress(OSError):
            rank = int(os.environ.get('RANK', '0'))
            file = kept or Path(cfg.work_dir) / (f'rank{rank}_{TRACEBACK}' if rank else TRACEBACK)
            atomic_write_text(file, traceback.format_exc())
            where = f' (traceback: {file})'
        said = f'{cfg.filename or "the config"}: {doing}: {explain(error, cfg._cfg_dict)}'
        raise InputError(f'{said}{where}') from error


def explain(error: BaseException, cfg: Mapping[str, Any]) -> str:
    """In one line: which part of ``cfg`` an exception is about, what is wrong with it, and what is close."""
    if re.search('weights.only', str(error), re.IGNORECASE):
        # From a model that reads weights by itself, such as timm's.
        return (
            'it names a checkpoint with more than weights and plain data, which is not loaded, since loading '
            f'could run it: {_said(error)}'
        )
    if unknown := _UNKNOWN.search(str(error)):
        return _unknown_type(unknown[1].strip('\'"'), cfg)
    if any(f.f_code is Runner.resume.__code__ for f, _ in traceback.walk_tb(error.__traceback__)):
        return f'the checkpoint holds another run ({_said(error)}): resume it with its own config'
    unexpected = _UNEXPECTED.search(str(error))
    frame = _innermost_build(error)
    if unexpected and (frame is None or unexpected[2] not in frame.f_locals.get('cfg', ())):
        # MMEngine builds its loops without a registry.
        kind, key = unexpected.groups()
        places = [path for path, part in _parts(cfg) if key in part]
        place = f'{places[0]} ({kind})' if places else kind
        return (
            f'{place} has no setting {key!r}{_close(key, _settings_of(_known_types().get(kind)))}'
        )
    if frame is None:
        # Nor does it check the type of an optimizer.
        name = _typo(cfg) if 'None' in str(error) else None
        return _unknown_type(name, cfg) if name else _said(error)
    settings, kind = frame.f_locals.get('cfg', {}), frame.f_locals.get('obj_cls')
    if kind is None and (name := _typo(cfg)):
        return _unknown_type(name, cfg)
    place = _place(settings, cfg)
    if unexpected:
        key = unexpected[2]
        return f'{place} has no setting {key!r}{_close(key, _settings_of(kind))}'
    if missing := _MISSING.search(str(error)):
        needed = missing[1].split("'")[1]
        meant = get_close_matches(needed, list(settings), n=1)
        hint = f': did you mean it by {meant[0]!r}?' if meant else ''
        return f'{place} needs {needed!r}{hint}'
    if name := _typo(settings):
        return _unknown_type(name, cfg)
    return f'{place}: {_said(error)}'


def name_images() -> None:
    """Make errors of the data pipelines in this process, and in workers that it forks, name the image."""
    Compose.__call__ = _transformed


def _transformed(pipeline: Compose, data: dict[str, Any]) -> dict[str, Any] | None:
    try:
        return _TRANSFORMED(pipeline, data)
    except InputError:
        raise
    except Exception as error:
        path = data.get('img_path') if isinstance(data, dict) else None
        if path is None:
            raise
        raise InputError(
            f'image {str(path)!r} cannot be loaded or transformed ({one_line(error)}): repair or remove it, '
            'or correct the pipeline'
        ) from error


def _said(error: BaseException) -> str:
    text = one_line(error)
    return text if len(text) <= _LENGTH else f'{text[:_LENGTH]}...'


def _innermost_build(error: BaseException) -> FrameType | None:
    """The frame in which MMEngine was building a part of a config when the exception was raised."""
    code = build_from_cfg.__code__
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if frame.f_code is code]
    frames = [frame for frame in frames if isinstance(frame.f_locals.get('cfg'), Mapping)]
    return frames[-1] if frames else None


def _parts(value: Any, path: str = '') -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All dicts in a config, and their dotted keys."""
    items: Any = ()
    if isinstance(value, Mapping):
        yield path, value
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    for key, item in items:
        yield from _parts(item, f'{path}.{key}' if path else str(key))


def _place(settings: Mapping[str, Any], cfg: Mapping[str, Any]) -> str:
    """Where ``settings``, which may have been changed since, stand in ``cfg``, and of which type they are."""
    kind = settings.get('type')
    name = kind if isinstance(kind, str) else getattr(kind, '__name__', str(kind))
    alike = [(path, part) for path, part in _parts(cfg) if part.get('type') == kind]
    exact = [path for path, part in alike if dict(part) == dict(settings)]
    paths = exact or [path for path, _ in alike]
    return f'{paths[0]} ({name})' if paths else name


def _unknown_type(name: str, cfg: Mapping[str, Any]) -> str:
    paths = [path for path, part in _parts(cfg) if part.get('type') == name]
    where, last = f'{paths[0]}.type' if paths else 'type', name.rpartition('.')[2]
    if last in _known_types():
        return f'{where} = {name!r} is not in the default scope: set default_scope, or write SCOPE.{last}'
    return f'{where} = {name!r} is not known{_close(last, _known_types())}'


def _typo(cfg: Any) -> str | None:
    """The first type in ``cfg`` that no registry knows."""
    known = _known_types()
    for _, part in _parts(cfg):
        kind = part.get('type')
        if isinstance(kind, str) and kind.rpartition('.')[2] not in known:
            return kind
    return None


def _known_types() -> dict[str, Any]:
    """All modules in all registries by name."""
    registries = [
        value for value in vars(mmengine.registry).values() if isinstance(value, Registry)
    ]
    names: dict[str, Any] = {}
    while registries:
        registry = registries.pop()
        names.update(registry.module_dict)
        registries += registry.children.values()
    return names


def _settings_of(kind: Any) -> set[str]:
    """The names of all arguments of a class and its bases, or of a function."""
    names: set[str] = set()
    for owner in getattr(kind, '__mro__', (kind,)):
        with suppress(TypeError, ValueError):
            names.update(signature(owner).parameters)
    return names - {'self', 'args', 'kwargs'}


def _close(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, sorted(known))
    return f': did you mean {" or ".join(map(repr, close))}?' if close else ''
