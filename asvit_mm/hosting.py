"""Where published weights lie, and whether a copy of them is whole.

A published file is named by OpenMMLab's convention, ``{config}_{YYYYMMDD}-{first 8 of its SHA-256}.pth`` (or
``.safetensors``), so that its name tells a whole copy from another.
"""

import hashlib
import os
import re
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from filelock import FileLock
from mmengine.runner import CheckpointLoader
from safetensors.torch import load_file

from .errors import InputError

# The base address of every published file, and the only place that names it: `tools/update_zoo.py` writes it
# into the metafiles. No public host has been chosen; whoever serves the folder SHIPPED there publishes them.
WEIGHTS_URL = 'http://127.0.0.1:8000'
# The published files that the package brings along; they are never fetched.
SHIPPED = Path(__file__).parent / 'weights'
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
    if not text.startswith(('http://', 'https://')):
        return text
    name = text.partition('?')[0].rpartition('/')[2]
    shipped = SHIPPED / name
    if text.startswith(f'{WEIGHTS_URL}/') and shipped.is_file():
        return str(shipped)
    cached = Path(torch.hub.get_dir()) / 'checkpoints' / name
    cached.parent.mkdir(parents=True, exist_ok=True)
    match = PUBLISHED.fullmatch(name)
    # The processes of one machine share the cache.
    with FileLock(f'{cached}.lock'):
        if cached.is_file() and (match is None or sha256(cached).startswith(match[3])):
            return str(cached)
        try:
            # Into a temporary file, which is renamed when it is whole.
            torch.hub.download_url_to_file(text, str(cached), match and match[3], progress=False)
        except RuntimeError as error:
            raise InputError(
                f'{text} came truncated or corrupted ({error}): download it again, or ask its host'
            ) from None
        except (URLError, OSError, ValueError) as error:
            raise InputError(
                f'checkpoint {text!r} cannot be fetched ({error}): check the address, or give a file'
            ) from None
    return str(cached)


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
    """MMEngine's loader of a local ``.safetensors`` file, which holds weights alone."""
    return {'state_dict': load_file(filename, device=str(map_location or 'cpu'))}


# MMEngine chooses a loader by a regular expression of the address, the longest of those that match: so that a
# download that mim did not check is checked wherever it is loaded.
CheckpointLoader.register_scheme(re.escape(WEIGHTS_URL), load_from_asvit_mm)
CheckpointLoader.register_scheme(rf'.*asvit[^/]*{DATE_AND_HASH}$', load_from_asvit_mm)
CheckpointLoader.register_scheme(r'.*\.safetensors$', load_from_safetensors)
