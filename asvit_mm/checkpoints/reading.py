"""Reading checkpoints, without running anything that is in them, and saying what of them a model takes."""

import pickle
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log
from mmengine.runner import CheckpointLoader
from safetensors import SafetensorError
from torch import Tensor, nn

from ..errors import InputError
from .hosting import check_whole, is_remote, load_from_safetensors, local_path

try:
    from numpy._core import multiarray
except ImportError:  # numpy 1
    from numpy.core import multiarray  # type: ignore[no-redef]


def _statistic(owner: Any, name: str) -> Any:
    """All that HistoryBuffer's pickle asks ``getattr`` for: its own methods."""
    if owner is not HistoryBuffer:
        raise pickle.UnpicklingError(f'GLOBAL getattr of {owner!r}')
    return getattr(owner, name)


def _named(function: Callable[..., Any], module: str, name: str) -> Callable[..., Any]:
    """The function under the name that a pickle calls it by."""

    def call(*args: Any) -> Any:
        return function(*args)

    call.__module__, call.__name__, call.__qualname__ = module, name, name
    return call


# What a run's checkpoint holds beside weights, numbers and strings: the log's history.
_HISTORY: list[Any] = [
    HistoryBuffer,
    np.ndarray,
    np.dtype,
    *(getattr(np.dtypes, name) for name in np.dtypes.__all__),
    *(
        _named(function, f'{package}.multiarray', function.__name__)
        for function in (multiarray.scalar, multiarray._reconstruct)
        for package in ('numpy._core', 'numpy.core')
    ),
    _named(_statistic, 'builtins', 'getattr'),
]


def read_checkpoint(path: str) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU: of a file, or of any address that MMEngine fetches.

    A file, and what ``http`` fetches, is read as weights, plain data and the history of a log; nothing that
    it names is run. Where a name says its SHA-256 (:mod:`~asvit_mm.checkpoints.hosting`), the content is
    held to it.

    Raises:
        InputError: no such file, truncated, corrupted, not a checkpoint, with objects of other kinds, or not
            to be fetched.
    """
    address, path = path, local_path(path)
    try:
        checkpoint = _load(path)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(
            f'checkpoint {path!r} does not exist: give the path of a .pth file'
        ) from None
    except (
        *(
            RuntimeError,
            EOFError,
            OSError,
            pickle.UnpicklingError,
            zipfile.BadZipFile,
            SafetensorError,
        ),
        *(KeyError, ValueError, ImportError),  # of schemes such as open-mmlab://
        *(IndexError, AssertionError, AttributeError, TypeError),  # of torch, where bytes are wrong
    ) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if '://' in path:
            raise InputError(
                f'checkpoint {path!r} cannot be fetched ({reason}): check the address'
            ) from error
        if unknown := re.search(r'GLOBAL (\S+)', str(error)):
            raise InputError(
                f'checkpoint {path!r} holds {unknown[1]}, which is neither weights nor plain data and is not '
                'loaded, since loading could run it: if you trust its author, save its state_dict alone'
            ) from error
        if is_remote(str(address)):
            Path(path).unlink(missing_ok=True)  # or it would be taken from the cache for ever
        raise InputError(
            f'checkpoint {str(address)!r} is truncated or not a checkpoint ({reason}): '
            'copy it again or take an earlier one'
        ) from error
    if not isinstance(checkpoint, dict):
        raise InputError(f'checkpoint {path!r} holds a {type(checkpoint).__name__}, no weights')
    weights = checkpoint.get('state_dict', checkpoint)
    if not isinstance(weights, dict):
        raise InputError(
            f'checkpoint {path!r} holds a {type(weights).__name__} for its weights: '
            'give one that MMEngine wrote'
        )
    return checkpoint


def _load(path: str) -> Any:
    if '://' in path:
        return CheckpointLoader.load_checkpoint(path, map_location='cpu')
    if not Path(path).is_file():
        raise FileNotFoundError(path)
    check_whole(path)
    if path.endswith('.safetensors'):
        return load_from_safetensors(path)
    # Every time: MMEngine, which allows some of them too, forbids them again when it has read something.
    torch.serialization.add_safe_globals(_HISTORY)
    return torch.load(path, map_location='cpu', weights_only=True)


def load_pretrained(
    module: nn.Module, init_cfg: Mapping[str, Any], *, optional: Iterable[str], resampled: str
) -> None:
    """Check, log and load the checkpoint of a ``Pretrained`` init_cfg, without MMEngine's loader.

    MMEngine loads whatever fits and leaves the rest of the module random, which a user sees when the run is
    over; and where torch refuses to read a file as weights, MMEngine reads it as a program.

    Args:
        init_cfg: ``checkpoint`` and, for a part of it, ``prefix``, as MMEngine's PretrainedInit has them.
        optional: beginnings of names that either side may lack.
        resampled: a weight that may have another height and width than the module's, which resamples it
            when it is loaded.

    Raises:
        InputError: a checkpoint that cannot be read, has nothing of that prefix, lacks a weight of the
            module, has one that the module has not, or one of another shape.
    """
    module.load_state_dict(
        check_pretrained(module, init_cfg, optional=optional, resampled=resampled), strict=False
    )


def check_pretrained(
    module: nn.Module, init_cfg: Mapping[str, Any], *, optional: Iterable[str], resampled: str
) -> dict[str, Tensor]:
    """Log what of the checkpoint of a ``Pretrained`` init_cfg a module takes; refuse what does not fit.

    MMEngine loads whatever fits and leaves the rest of the module random, which a user sees when the run is
    over.

    Args:
        init_cfg: ``checkpoint`` and, for a part of it, ``prefix``, as MMEngine's PretrainedInit has them.
        optional: beginnings of names that either side may lack.
        resampled: a weight that may have another height and width than the module's.

    Raises:
        InputError: a checkpoint that cannot be read, has nothing of that prefix, lacks a weight of the
            module, has one that the module has not, or one of another shape.
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
    return given


def select_weights(content: Mapping[str, Any], prefix: str) -> dict[str, Tensor]:
    """The weights in a checkpoint's content whose names begin with ``prefix``, by what follows it.

    As MMEngine takes them: what DistributedDataParallel adds to names is dropped where ``prefix`` is empty.
    """
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
    """Log what of given weights a module takes; refuse what does not fit.

    Args:
        path: of the checkpoint that they are from.
        optional: beginnings of names that either side may lack.
        resampled: a weight that may have another height and width than the module's.

    Raises:
        InputError: they lack a weight of the module, have one that the module has not, or one of another
            shape.
    """
    own = module.state_dict()
    extra, missing = sorted(given.keys() - own.keys()), sorted(own.keys() - given.keys())
    shared = given.keys() & own.keys()
    wrong = sorted(k for k in shared if _shape(given, k, resampled) != _shape(own, k, resampled))
    needed = [
        name
        for name in (*wrong, *extra, *missing)
        if name in wrong or not name.startswith(tuple(optional))
    ]
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
    """Of a weight; without height and width, (1, H, W, C), where these may differ."""
    shape = tuple(getattr(weights[name], 'shape', ()))
    return shape[:1] + shape[3:] if name == resampled else shape
