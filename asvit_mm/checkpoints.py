"""Reading checkpoints, and saying what of them a model takes."""

import pickle
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any

from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from .errors import InputError


def read_checkpoint(path: str) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU: of a file, or of any address that MMEngine fetches.

    Raises:
        InputError: no such file, truncated, not a checkpoint, or not to be fetched.
    """
    try:
        checkpoint = CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
    except FileNotFoundError:
        raise InputError(
            f'checkpoint {str(path)!r} does not exist: give the path of a .pth file'
        ) from None
    except (
        *(RuntimeError, EOFError, OSError, pickle.UnpicklingError, zipfile.BadZipFile),
        *(KeyError, ValueError, ImportError),  # of schemes such as open-mmlab://
    ) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if '://' in str(path):
            raise InputError(
                f'checkpoint {str(path)!r} cannot be fetched ({reason}): check the address'
            ) from error
        raise InputError(
            f'checkpoint {str(path)!r} is truncated or not a checkpoint ({reason}): '
            'copy it again or take an earlier one'
        ) from error
    if not isinstance(checkpoint, dict):
        raise InputError(
            f'checkpoint {str(path)!r} holds a {type(checkpoint).__name__}, no weights'
        )
    weights = checkpoint.get('state_dict', checkpoint)
    if not isinstance(weights, dict):
        raise InputError(
            f'checkpoint {str(path)!r} holds a {type(weights).__name__} for its weights: '
            'give one that MMEngine wrote'
        )
    return checkpoint


def check_pretrained(
    module: nn.Module, init_cfg: Mapping[str, Any], *, optional: Iterable[str], resampled: str
) -> None:
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
    content = read_checkpoint(path)
    # As MMEngine takes them; what DistributedDataParallel adds to names it drops without a prefix only.
    given: dict[str, Tensor] = {
        key.removeprefix(start or 'module.'): value
        for key, value in content.get('state_dict', content).items()
        if key.startswith(start)
    }
    if not given:
        raise InputError(f'{path!r} has no weights that begin with {start!r}: mind init_cfg.prefix')
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
