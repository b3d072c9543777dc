"""Reading checkpoints without running anything in them, and loading them into a module."""

import json
import os
import pickle
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine import fileio
from mmengine.logging import HistoryBuffer, print_log
from mmengine.runner import CheckpointLoader
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ..errors import InputError
from .hosting import check_whole, downloaded_path, is_remote, local_path, resolve

# The weights in a folder of asvit_mm.save_pretrained.
FOLDER_WEIGHTS = 'model.safetensors'

try:
    from numpy._core import multiarray
except ImportError:  # numpy 1
    from numpy.core import multiarray  # type: ignore[no-redef]


def _statistic(owner: Any, name: str) -> Any:
    """``getattr``, restricted to what the pickle of a HistoryBuffer needs: four of its own methods."""
    if owner is not HistoryBuffer or name not in ('min', 'max', 'current', 'mean'):
        raise pickle.UnpicklingError(f'GLOBAL getattr of {owner!r}')
    return getattr(owner, name)


def _named(function: Callable[..., Any], module: str, name: str) -> Callable[..., Any]:
    """``function`` under the qualified name that a pickle has for it."""

    def call(*args: Any) -> Any:
        return function(*args)

    call.__module__, call.__name__, call.__qualname__ = module, name, name
    return call


# What a run's checkpoint holds beside weights, numbers and strings: the log's history.
_HISTORY: list[Any] = [
    HistoryBuffer,
    np.ndarray,
    np.dtype,
    *{type(np.dtype(code)) for code in '?bhilqBHILQefdg'},
    *(
        _named(function, f'{package}.multiarray', function.__name__)
        for function in (multiarray.scalar, multiarray._reconstruct)
        for package in ('numpy._core', 'numpy.core')
    ),
    _named(_statistic, 'builtins', 'getattr'),
]


def classes_of(meta: Any) -> dict[str, list[Any]]:
    """Names and colours of the classes, as ``classes`` and ``palette``, of a dataset_meta of MMEngine."""
    found = meta if isinstance(meta, dict) else {}
    lists = {key: found.get(key) for key in ('classes', 'palette')}
    return {key: list(value) for key, value in lists.items() if isinstance(value, (list, tuple))}


def read_checkpoint(path: str | os.PathLike[str], map_location: Any = 'cpu') -> dict[str, Any]:
    """The content of a checkpoint: weights, plain data and the history of a log; nothing in it is run.

    Args:
        path: a file, a folder of :func:`asvit_mm.save_pretrained`, an address (``http(s)://``, or that of a
            storage of :mod:`mmengine.fileio`), or one of MMEngine's names, such as ``torchvision://resnet50``.
        map_location: where to load tensors to, as torch has it.

    Raises:
        InputError: it cannot be fetched or read, or holds objects or tensors of other kinds.
    """
    text = str(path)
    address = resolve(text)
    file = local_path(address)
    try:
        checkpoint = _load(file, map_location, check=not is_remote(address))
    except InputError:
        raise
    except Exception as error:  # whatever it is, it is about the bytes of the file
        if unknown := re.search(r'GLOBAL (\S+)', str(error)):
            raise InputError(
                f'checkpoint {text!r} holds {unknown[1]}, which is neither weights nor plain data and is not '
                'loaded, since loading could run it: if you trust its author, save its state_dict alone'
            ) from error
        if is_remote(address):
            with suppress(OSError):  # or it would be taken from the cache for ever
                downloaded_path(address).unlink()
        raise InputError(
            f'checkpoint {text!r} is truncated or not a checkpoint ({_first_line(error)}): '
            'copy it again or take an earlier one'
        ) from error
    if wrong := _what_is_wrong(checkpoint):
        raise InputError(f'checkpoint {text!r} {wrong}')
    if text.startswith('mmcls://'):
        return {'state_dict': select_weights(checkpoint, 'backbone.')}  # as MMEngine does
    return checkpoint


def _load(path: str, map_location: Any, *, check: bool) -> Any:
    """What is in a file; ``check``: hold a file that this project published to the hash in its name."""
    with ExitStack() as stack:
        file = Path(path).expanduser()
        if '://' in path and not file.exists():
            try:
                file = Path(stack.enter_context(fileio.get_local_path(path)))
            except Exception as error:  # of a storage's client
                raise InputError(
                    f'checkpoint {path!r} cannot be fetched ({_first_line(error)}): check the address, or '
                    'give a file'
                ) from error
        if (file / FOLDER_WEIGHTS).is_file():
            file = file / FOLDER_WEIGHTS
        if file.is_dir():
            raise InputError(
                f'checkpoint {path!r} is a folder, as DeepSpeed and FSDP write it, and only files are read: '
                'convert it with the zero_to_fp32.py in it (DeepSpeed) or with `python -m '
                'torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE` (FSDP)'
            )
        if not file.is_file():
            raise InputError(f'checkpoint {path!r} does not exist: give the path of a .pth file')
        if check:
            check_whole(file)
        if file.suffix == '.safetensors':
            return _load_safetensors(file, str(map_location or 'cpu'))
        # At every call: code that allows some of these temporarily forbids them afterwards.
        torch.serialization.add_safe_globals(_HISTORY)
        return torch.load(file, map_location=map_location, weights_only=True)


def save_safetensors(weights: Mapping[str, Tensor], meta: Mapping[str, Any]) -> bytes:
    """The bytes of a ``.safetensors`` file; :func:`read_checkpoint` reads ``meta``, plain data, again."""
    # Several libraries refuse a file without the format; values of the header are strings.
    plain = {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in meta.items()
    }
    return save(dict(weights), {'format': 'pt', **plain})


def _load_safetensors(file: Path, device: str) -> dict[str, Any]:
    with safe_open(file, 'pt', device=device) as opened:
        meta: dict[str, Any] = opened.metadata() or {}
        weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no dict)
    if 'dataset_meta' in meta:
        meta['dataset_meta'] = json.loads(meta['dataset_meta'])
    return {'state_dict': weights, 'meta': meta}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _what_is_wrong(checkpoint: Any) -> str | None:
    """Why a checkpoint is not a dict of named, dense tensors, which MMEngine takes for granted; or None."""
    content = checkpoint if isinstance(checkpoint, dict) else {'state_dict': checkpoint}
    weights, meta = content.get('state_dict', content), content.get('meta', {})
    if not isinstance(weights, dict):
        return f'holds a {type(weights).__name__}, no weights'
    if weights is not checkpoint and not isinstance(meta, dict):
        return f'holds a {type(meta).__name__} for its meta data: save its state_dict alone'
    for name, value in weights.items():
        special = isinstance(value, Tensor) and (
            value.is_meta or value.is_quantized or value.layout is not torch.strided
        )
        if special or not isinstance(name, str):
            return f'holds {name!r}, which is not a dense tensor with a string for a name: save it as one'
    return None


def load_from_asvit_mm(filename: str, map_location: Any = None) -> dict[str, Any]:
    """:func:`read_checkpoint` as a loader of MMEngine, which logs the name after ``load_from_``."""
    return read_checkpoint(filename, map_location)


def secure_mmengine() -> None:
    """Make MMEngine read every checkpoint in this process with :func:`read_checkpoint`.

    Its own loaders unpickle a file without restrictions if torch refuses to read it as weights.
    """
    schemes = list(CheckpointLoader._schemes)
    CheckpointLoader.register_scheme(schemes, load_from_asvit_mm, force=True)


def load_pretrained(
    module: nn.Module, init_cfg: Mapping[str, Any], *, optional: Iterable[str], resampled: str
) -> None:
    """Load the checkpoint of a ``Pretrained`` init_cfg, and log what was taken.

    MMEngine loads whatever fits and leaves the rest of the module random; this refuses what does not fit.

    Args:
        init_cfg: ``checkpoint`` and, for a part of it, ``prefix``, as MMEngine's PretrainedInit has them.
        optional, resampled: see :func:`check_fit`; the module itself resamples, when it loads.

    Raises:
        InputError: a checkpoint that cannot be read, has nothing of that prefix, or does not fit.
    """
    path, prefix = init_cfg.get('checkpoint'), init_cfg.get('prefix')
    if path is None or prefix == '':
        raise InputError(
            "init_cfg of type Pretrained: give checkpoint='PATH', and a prefix such as 'backbone.' or none"
        )
    start = f'{prefix.rstrip(".")}.' if prefix else ''
    given = select_weights(read_checkpoint(path), start)
    if not given:
        raise InputError(f'{path!r} has no weights that begin with {start!r}: mind init_cfg.prefix')
    check_fit(module, given, path, optional=optional, resampled=resampled)
    module.load_state_dict(given, strict=False)


def select_weights(content: Mapping[str, Any], prefix: str) -> dict[str, Tensor]:
    """The weights whose names begin with ``prefix``, without it; '' removes the 'module.' of DDP instead."""
    return {
        key.removeprefix(prefix or 'module.'): value
        for key, value in content.get('state_dict', content).items()
        if key.startswith(prefix)
    }


def check_fit(
    module: nn.Module,
    given: Mapping[str, Tensor],
    path: str,
    *,
    optional: Iterable[str],
    resampled: str,
) -> None:
    """Refuse weights that do not fit a module, and log which it takes.

    Args:
        path: of their checkpoint, for messages.
        optional: prefixes of names that may be missing on either side.
        resampled: name of the weight whose height and width may differ from the module's.

    Raises:
        InputError: a weight is missing, has no place in the module, or has another shape.
    """
    own = module.state_dict()
    extra, missing = sorted(given.keys() - own.keys()), sorted(own.keys() - given.keys())
    shared = given.keys() & own.keys()
    wrong = sorted(k for k in shared if _shape(given, k, resampled) != _shape(own, k, resampled))
    free = tuple(optional)
    needed = [*wrong, *(name for name in (*extra, *missing) if not name.startswith(free))]
    if needed:
        raise InputError(
            f'{path!r} does not fit the {type(module).__name__} of the config: {len(wrong)} weights have '
            f'another shape, {len(extra)} have no place in it, {len(missing)} of its own are not there '
            f'({needed[0]}): give it the settings that the weights were trained with'
        )
    report = [f'{type(module).__name__}: {len(shared)} of {len(given)} weights taken from {path}']
    if resampled in shared and given[resampled].shape != own[resampled].shape:
        old, new = ('x'.join(map(str, w[resampled].shape[1:3])) for w in (given, own))
        report.append(f'{resampled} resampled from {old} to {new}')
    if missing:
        report.append(f'as initialised: {", ".join(missing)}')
    if extra:
        report.append(f'without a place: {", ".join(extra)}')
    print_log('; '.join(report), logger='current')


def _shape(weights: Mapping[str, Tensor], name: str, resampled: str) -> tuple[int, ...]:
    """Shape of a weight; that of ``resampled``, (1, H, W, C), without height and width."""
    shape = tuple(getattr(weights[name], 'shape', ()))
    return shape[:1] + shape[3:] if name == resampled else shape
