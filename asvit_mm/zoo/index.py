"""The models of the zoo, read from ``model-index.yml`` and the metafiles that it imports."""

from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

from ..checkpoints.hosting import local_path, sha256
from ..config_writer.shipped import shipped_config
from ..errors import InputError

# The image size that the costs of a detector or segmentor are for. Only these have it in their metadata
# (:mod:`.cards` ensures that): reading their configs instead would make ``import asvit_mm.zoo`` slow.
IMAGE_SIZE = 'Image Size'


@dataclass(frozen=True)
class ZooModel:
    """One model of the zoo.

    Attributes:
        name: of the model and of its config.
        config: path of the config.
        metafile: path of the metafile.
        weights: address of the published weights, if any.
        metadata: parameters, multiply-adds and architecture string, from the metafile.
        results: metrics, each with its ``Source``.
    """

    name: str
    config: Path
    metafile: Path
    weights: str | None
    metadata: dict[str, Any]
    results: list[dict[str, Any]]

    @property
    def classifies(self) -> bool:
        """Whether it is a classifier."""
        return IMAGE_SIZE not in self.metadata


def index_folder() -> Path:
    """The folder of ``model-index.yml``, to which the paths in metafiles are relative."""
    return shipped_config('asvit/metafile.yml').parents[2]


def models() -> dict[str, ZooModel]:
    """All models of the zoo by their names in lower case, in the order of the index."""
    folder, found = index_folder(), {}
    index = yaml.safe_load((folder / 'model-index.yml').read_text(encoding='utf-8'))
    for metafile in (folder / name for name in index['Import']):
        for entry in yaml.safe_load(metafile.read_text(encoding='utf-8'))['Models']:
            found[entry['Name'].lower()] = ZooModel(
                entry['Name'],
                folder / entry['Config'],
                metafile,
                entry.get('Weights'),
                entry.get('Metadata') or {},
                entry.get('Results') or [],
            )
    return found


def list_models(pattern: str = '*') -> list[str]:
    """Names of the zoo's models that match a wildcard pattern, sorted."""
    return sorted(name for name in models() if fnmatch(name, pattern))


def find(name: str) -> ZooModel:
    """The model of that name.

    Raises:
        InputError: there is none.
    """
    known = models()
    if name.lower() not in known:
        near = get_close_matches(name.lower(), known, n=3, cutoff=0.0)
        raise InputError(
            f'the zoo has no {name!r}: it has {", ".join(near)} and others (asvit_mm.zoo.list_models())'
        )
    return known[name.lower()]


def fetch(name: str) -> tuple[str, str]:
    """Paths of a model's config and weights, which are downloaded and checked if needed.

    Raises:
        InputError: no such model, no weights, or weights that cannot be downloaded whole.
    """
    model = find(name)
    if model.weights is None:
        having = ', '.join(key for key, value in models().items() if value.weights)
        raise InputError(f'{name} has no weights yet; these have: {having}')
    path = local_path(model.weights)
    if sha256(path) != model.metadata['Weights SHA-256']:
        raise InputError(
            f'{path} is not what was published as {name}: remove it and fetch it again'
        )
    return str(model.config), path
