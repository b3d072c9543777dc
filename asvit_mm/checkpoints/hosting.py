"""Locating weights: in a file, in the package, or at an address, from which they are downloaded.

A file that this project publishes is named by OpenMMLab's convention, ``{config}_{YYYYMMDD}-{first 8 of its
SHA-256}.pth`` (or ``.safetensors``), so that its name tells an intact copy from a damaged one.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from urllib.request import Request, urlopen

import torch
from filelock import FileLock
from mmengine.logging import print_log
from mmengine.runner import checkpoint as mmengine_checkpoint

from ..errors import InputError
from ..utils.files import atomic_file

# The base address of every published file: `tools/misc/update_zoo.py --weights-url` changes it, here and in
# the metafiles. No public host has been chosen; `python -m asvit_mm.checkpoints.serving` serves SHIPPED here.
WEIGHTS_URL = 'http://127.0.0.1:8000'
# The published files that the package brings along; they are never downloaded.
SHIPPED = Path(__file__).parents[1] / 'weights'
# Only names with 'asvit': other projects name files like this, too, but not always by the SHA-256.
PUBLISHED = re.compile(r'(.*asvit.*)_(\d{8})-([0-9a-f]{8})\.(pth|safetensors)')
# Seconds without a byte from a server, and those to wait while another process downloads the same file.
TIMEOUT, LOCK_TIMEOUT = 30.0, 1800.0

# Functions of MMEngine that give addresses for its names of other projects' weights, by scheme.
_TABLES: dict[str, Callable[[], dict[str, str]]] = {
    'torchvision': mmengine_checkpoint.get_torchvision_models,
    'modelzoo': mmengine_checkpoint.get_torchvision_models,
    'open-mmlab': mmengine_checkpoint.get_external_models,
    'openmmlab': mmengine_checkpoint.get_external_models,
    'mmcls': mmengine_checkpoint.get_mmcls_models,
}


def sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def check_whole(path: str | os.PathLike[str]) -> None:
    """Check a file that this project published against the SHA-256 in its name; accept any other file.

    Raises:
        InputError: its content has another SHA-256.
    """
    if not _is_whole(Path(path)):
        raise InputError(
            f'checkpoint {str(path)!r} is truncated or corrupted (its SHA-256 is not the one in its name): '
            'remove it and download it again'
        )


def _is_whole(path: Path) -> bool:
    match = PUBLISHED.fullmatch(path.name)
    return match is None or sha256(path).startswith(match[3])


def resolve(name: str) -> str:
    """The address or path behind one of MMEngine's names, ``torchvision://resnet50`` for instance.

    Raises:
        InputError: MMEngine does not know the name.
    """
    scheme, _, key = name.partition('://')
    if scheme not in _TABLES:
        return name
    key = mmengine_checkpoint.get_deprecated_model_names().get(key, key)
    found = _TABLES[scheme]().get(key)
    if found is None:
        raise InputError(f'checkpoint {name!r} cannot be fetched: {scheme} has no weights {key!r}')
    if is_remote(found):
        return found
    return os.path.join(mmengine_checkpoint._get_mmengine_home(), found)


def is_remote(address: str) -> bool:
    """Whether it is an address that :func:`local_path` downloads."""
    return address.lower().startswith(('http://', 'https://'))


def local_path(address: str | os.PathLike[str]) -> str:
    """The local path of the weights at an address, downloaded to torch's cache if necessary.

    Published weights that come with the package are taken from there. A file that has the name of the
    address, which the user, torch or MMEngine has put into the cache, is taken. The cache may be read-only if
    it has the file. What is not an address is returned as it is.

    Raises:
        InputError: it cannot be downloaded, or is published here and not what its name says.
    """
    text = str(address)
    if not is_remote(text):
        return text
    name = text.partition('?')[0].rpartition('/')[2]
    ours = text.startswith(f'{WEIGHTS_URL}/')
    if ours and (SHIPPED / name).is_file():
        check_whole(SHIPPED / name)
        return str(SHIPPED / name)
    path = by_hand = Path(torch.hub.get_dir()) / 'checkpoints' / name
    if not ours:
        path = downloaded_path(text)

    def is_there() -> bool:
        return path.is_file() and (not ours or _is_whole(path))

    try:
        if not ours and name and by_hand.is_file():
            print_log(f'{text} is taken from {by_hand}', logger='current')
            return str(by_hand)
        if not is_there():
            path.parent.mkdir(parents=True, exist_ok=True)
            # The processes of one machine share the cache: one downloads.
            with FileLock(f'{path}.lock', timeout=LOCK_TIMEOUT):
                if not is_there():
                    _download(text, path, check=ours)
    except InputError:
        raise
    except (OSError, HTTPException, ValueError) as error:
        raise InputError(
            f'checkpoint {text!r} cannot be fetched ({str(error) or type(error).__name__}): check the '
            'address, or give a file'
        ) from None
    return str(path)


def downloaded_path(address: str) -> Path:
    """Where :func:`local_path` keeps what it downloads from an address that is not of this project.

    Files at different addresses may have the same name.
    """
    name = address.partition('?')[0].rpartition('/')[2]
    digest = hashlib.sha256(address.encode()).hexdigest()[:16]
    return Path(torch.hub.get_dir()) / 'checkpoints' / f'{digest}-{name}'


def _download(address: str, path: Path, *, check: bool) -> None:
    """Download a file, all of it or nothing; ``check`` it against the SHA-256 in its name."""
    request = Request(address, headers={'User-Agent': 'asvit_mm'})
    with urlopen(request, timeout=TIMEOUT) as response, atomic_file(path) as temporary:
        with temporary.open('wb') as file:
            shutil.copyfileobj(response, file)
        size, announced = temporary.stat().st_size, response.headers['Content-Length']
        if announced not in (None, str(size)) or (check and not _is_whole(temporary)):
            raise InputError(
                f'{address} came truncated or corrupted ({size} bytes): download it again, or ask its host'
            )
