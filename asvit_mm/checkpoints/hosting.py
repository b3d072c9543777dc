"""Where published weights lie, and whether a copy of them is whole.

A published file is named by OpenMMLab's convention, ``{config}_{YYYYMMDD}-{first 8 of its SHA-256}.pth`` (or
``.safetensors``), so that its name tells a whole copy from another.
"""

import hashlib
import os
import re
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from mmengine.runner import CheckpointLoader
from safetensors.torch import load_file

from ..errors import InputError

# The base address of every published file, and the only place that names it: `tools/misc/update_zoo.py`
# writes it into the metafiles. No public host has been chosen; whoever serves the folder SHIPPED there
# publishes them.
WEIGHTS_URL = 'http://127.0.0.1:8000'
# The published files that the package brings along; they are never fetched.
SHIPPED = Path(__file__).parents[1] / 'weights'
DATE_AND_HASH = r'_(\d{8})-([0-9a-f]{8})\.(pth|safetensors)'
PUBLISHED = re.compile(f'(.+){DATE_AND_HASH}')


def sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def check_whole(path: str | os.PathLike[str]) -> None:
    """Refuse a published file whose content is not what its name says; other names say nothing.

    Raises:
        InputError: the content has another SHA-256 than the name.
    """
    match = PUBLISHED.fullmatch(Path(path).name)
    if match and (found := sha256(path)[:8]) != match[3]:
        raise InputError(
            f'checkpoint {str(path)!r} is truncated or corrupted (its SHA-256 begins with {found}, its name '
            f'says {match[3]}): remove it and download it again'
        )


def local_path(address: str | os.PathLike[str]) -> str:
    """The path at which the weights of an address lie on this machine, fetched and checked where need be.

    Published weights that come with the package are taken from there, others behind ``http://`` and
    ``https://`` from torch's cache. Everything else is returned as it is.

    Raises:
        InputError: it cannot be fetched, or what came is not what the name says.
    """
    text = str(address)
    if not is_remote(text):
        return text
    name = text.partition('?')[0].rpartition('/')[2]
    match = PUBLISHED.fullmatch(name)
    shipped = SHIPPED / name
    if match and text.startswith(f'{WEIGHTS_URL}/') and shipped.is_file():
        check_whole(shipped)
        return str(shipped)
    if match is None:
        # Such a name says nothing: files of other addresses may have it, too.
        name = f'{hashlib.sha256(text.encode()).hexdigest()[:16]}-{name}'
    cached = Path(torch.hub.get_dir()) / 'checkpoints' / name
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        # The processes of one machine share the cache.
        with FileLock(f'{cached}.lock'):
            if cached.is_file() and (match is None or sha256(cached).startswith(match[3])):
                return str(cached)
            # Into a temporary file, which is renamed when it is whole.
            torch.hub.download_url_to_file(text, str(cached), match and match[3], progress=False)
    except RuntimeError as error:
        raise InputError(
            f'{text} came truncated or corrupted ({error}): download it again, or ask its host'
        ) from None
    except (OSError, HTTPException, ValueError) as error:
        raise InputError(
            f'checkpoint {text!r} cannot be fetched ({error}): check the address, or give a file'
        ) from None
    return str(cached)


def is_remote(address: str) -> bool:
    """Whether it is an address that :func:`local_path` fetches."""
    return address.lower().startswith(('http://', 'https://'))


def load_from_asvit_mm(filename: str, map_location: Any = None) -> Any:
    """MMEngine's loader of what this project publishes: fetched where need be, checked, never executed.

    Raises:
        InputError: it cannot be fetched, or is not whole.
    """
    path = local_path(filename)
    check_whole(path)
    if path.endswith('.safetensors'):
        return load_from_safetensors(path, map_location)
    return torch.load(path, map_location=map_location, weights_only=True)


def load_from_safetensors(filename: str, map_location: Any = None) -> dict[str, Any]:
    """MMEngine's loader of a ``.safetensors`` file, here or behind an address, which holds weights alone."""
    return {'state_dict': load_file(local_path(filename), device=str(map_location or 'cpu'))}


# MMEngine chooses the first regular expression that matches the beginning of an address, in reverse
# alphabetical order: `https?:` comes before its own `https:`. So a download that mim did not check is checked
# where it is loaded. Other projects' files are left to MMEngine.
for scheme, loader in (
    (re.escape(WEIGHTS_URL), load_from_asvit_mm),
    (rf'.*asvit[^/]*{DATE_AND_HASH}$', load_from_asvit_mm),
    (rf'https?://.*asvit[^/]*{DATE_AND_HASH}$', load_from_asvit_mm),
    (r'https?://.*\.safetensors$', load_from_safetensors),
    (r'.*\.safetensors$', load_from_safetensors),
):
    CheckpointLoader.register_scheme(scheme, loader, force=True)
