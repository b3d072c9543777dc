"""Metafiles and model cards that agree with the configs.

A metafile's names, results and weights are written by hand or recorded by
``tools/model_converters/publish_model.py``. Costs, addresses and architecture strings follow from the configs
and from ``WEIGHTS_URL``; so do the tables between ``<!-- models: configs/FOLDER -->`` and ``<!-- end -->`` in
pages. ``tools/misc/update_zoo.py`` writes them.
"""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from mmengine.config import Config

from ..arch import Architecture, as_architecture
from ..checkpoints.hosting import PUBLISHED, SHIPPED, WEIGHTS_URL, sha256
from ..cost import count_macs, count_params, schedule_share
from ..engine.config import (
    MissingCodebaseError,
    is_detector,
    is_segmentor,
    is_token_hook,
    load_config,
)
from ..errors import InputError
from ..token_schedule import read_schedule
from ..tokens import as_pair
from ..utils.units import format_count
from .index import IMAGE_SIZE

TABLE = re.compile(r'(<!-- models: (configs/\w+) -->\n).*?(<!-- end -->)', re.DOTALL)
SHARE = 'Training FLOPs (%)'
PUBLISHED_METRIC = 'Published '
KEYS = ('Name', 'In Collection', 'Metadata', 'Results', 'Config')  # of an entry, in their order
NONE = '-'

Counter = Callable[[Path, tuple[int, int]], tuple[int, int]]


def refresh(
    root: Path,
    count_config: Counter,
    recount: bool = False,
    weights_url: str | None = None,
) -> dict[Path, str]:
    """What the metafiles and the pages with tables of models should contain.

    Args:
        root: of the repository.
        count_config: parameters and multiply-adds of the detector or segmentor of a config for an image of
            (height, width).
        recount: whether those are counted whose metafile has figures already.
        weights_url: new base address of the published files; None: ``WEIGHTS_URL``.

    Returns:
        the text of each file; with ``weights_url`` also that of the module that holds ``WEIGHTS_URL``.
        Entries of models of a codebase that is not installed stay as they are.

    Raises:
        InputError: a metafile with a model whose config is missing, or weights other than its entry says; or
            no address.
    """
    index = yaml.safe_load((root / 'model-index.yml').read_text(encoding='utf-8'))
    texts: dict[Path, str] = {}
    contents = {}
    address = WEIGHTS_URL
    if weights_url is not None:
        address = _checked_address(weights_url)
        hosting = root / 'asvit_mm/checkpoints/hosting.py'
        setting = re.compile(r"^WEIGHTS_URL = '.*'$", re.MULTILINE)
        texts[hosting] = setting.sub(
            f'WEIGHTS_URL = {address!r}', hosting.read_text(encoding='utf-8')
        )
    for name in index['Import']:
        content = yaml.safe_load((root / name).read_text(encoding='utf-8'))
        content['Models'] = [
            _entry(root, entry, count_config, recount, address) for entry in content['Models']
        ]
        contents[str(Path(name).parent)] = content['Models']
        texts[root / name] = dump(content)
    for page in [*sorted(root.glob('configs/*/README.md')), root / 'docs' / 'zoo.md']:
        text = page.read_text(encoding='utf-8')
        for block in TABLE.finditer(text):
            start, folder, end = block.groups()
            if folder not in contents:
                raise InputError(f'{page}: model-index.yml imports no metafile of {folder}')
            table = _table(root, page.parent, contents[folder])
            text = text.replace(block[0], f'{start}\n{table}\n{end}')
        texts[page] = text
    return texts


def dump(content: Mapping[str, Any]) -> str:
    """A metafile's content as YAML."""
    return yaml.safe_dump(dict(content), sort_keys=False, width=110, allow_unicode=True)


def _entry(
    root: Path,
    entry: dict[str, Any],
    count_config: Counter,
    recount: bool,
    address: str,
) -> dict[str, Any]:
    """A metafile's entry with what follows from its config."""
    config = root / entry['Config']
    try:
        cfg = load_config(config)
    except MissingCodebaseError:
        return entry
    metadata = dict(entry.get('Metadata') or {})
    metadata.pop(SHARE, None)
    try:
        arch = as_architecture(cfg.model.backbone.arch)
    except InputError as error:
        raise InputError(f'{entry["Name"]}: {error}') from None
    metadata['Architecture String'] = str(arch)
    if is_detector(cfg) or is_segmentor(cfg):
        if IMAGE_SIZE not in metadata:
            kind = 'detector' if is_detector(cfg) else 'segmentor'
            raise InputError(
                f'{entry["Name"]} is a {kind}: say in its entry what size its costs are for, as '
                f'Metadata: {{{IMAGE_SIZE}: 800x1344}}'
            )
        if recount or 'FLOPs' not in metadata:
            height, width = map(int, metadata[IMAGE_SIZE].split('x'))
            metadata['Parameters'], metadata['FLOPs'] = count_config(config, (height, width))
    else:
        metadata.pop(IMAGE_SIZE, None)
        classes, size = cfg.model.head.num_classes, cfg.model.backbone.get('img_size', 224)
        metadata['FLOPs'] = count_macs(arch, size, classes)
        metadata['Parameters'] = count_params(arch, classes, img_size=size)
        if share := _training_share(cfg, arch, size, classes):
            metadata[SHARE] = round(100 * share, 1)
    first = {key: metadata[key] for key in ('FLOPs', 'Parameters')}
    result = {**entry, 'Metadata': {**first, **metadata}}
    result = {key: result[key] for key in KEYS if key in result}
    if 'Weights' in entry:
        name = entry['Weights'].rpartition('/')[2]
        _check_weights(name, metadata.get('Weights SHA-256'))
        result['Weights'] = f'{address}/{name}'
    return result


def _checked_address(text: str) -> str:
    parts = urlsplit(text)
    plain = not (parts.query or parts.fragment) and re.fullmatch(r"[^\s'\\\\]+", text)
    if parts.scheme not in ('http', 'https') or not parts.hostname or not plain:
        raise InputError(
            f'--weights-url {text!r} is no base address: give one such as https://HOST/FOLDER'
        )
    return text.rstrip('/')


def _check_weights(name: str, digest: str | None) -> None:
    match = PUBLISHED.fullmatch(name)
    if match is None or digest is None or not digest.startswith(match[3]):
        raise InputError(
            f'{name} is not named by its SHA-256 ({digest}): tools/model_converters/publish_model.py does it'
        )
    if (SHIPPED / name).is_file() and sha256(SHIPPED / name) != digest:
        raise InputError(f'{SHIPPED / name} is not what was published: take it from the history')


def _training_share(cfg: Config, arch: Architecture, size: Any, classes: int) -> float | None:
    """Multiply-adds of training in phases, as a share of training at the full grid; None: no phases."""
    for hook in cfg.get('custom_hooks') or ():
        if is_token_hook(hook):
            phases = read_schedule(hook['phases'], arch.stride)
            return schedule_share(arch, phases, as_pair(size, 'img_size'), classes)
    return None


def _table(root: Path, folder: Path, models: list[dict[str, Any]]) -> str:
    """A Markdown table of a metafile's models, with links from a page in ``folder``."""
    rows = [_row(root, folder, model) for model in models]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if SHARE in columns:
        columns.insert(4, columns.pop(columns.index(SHARE)))
    if 'Weights' in columns:
        columns.append(columns.pop(columns.index('Weights')))
    empty = dict.fromkeys(columns, NONE) | {SHARE: '100 %'}
    titles = ['Training multiply-adds' if name == SHARE else name for name in columns]
    lines = [titles, ['---', '---', *['---:'] * (len(columns) - 2)]]
    lines += [[row.get(name, empty[name]) for name in columns] for row in rows]
    return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def _row(root: Path, folder: Path, model: Mapping[str, Any]) -> dict[str, str]:
    """The cells of a model's row, by the titles of their columns."""

    def link(path: Path) -> str:
        return Path(os.path.relpath(path, folder)).as_posix()

    metadata = model['Metadata']
    size = f' at {metadata[IMAGE_SIZE]}' if IMAGE_SIZE in metadata else ''
    row = {
        'Model': f'[{model["Name"]}]({link(root / model["Config"])})',
        'Architecture': f'`{metadata["Architecture String"]}`'.replace('|', r'\|'),
        'Parameters': f'{metadata["Parameters"]:,}',
        'Multiply-adds': format_count(metadata['FLOPs']) + size,
    }
    if SHARE in metadata:
        row[SHARE] = f'{metadata[SHARE]:.1f} %'
    for result in model.get('Results', ()):
        for metric, value in result['Metrics'].items():
            plain = metric.removeprefix(PUBLISHED_METRIC)
            source = 'published' if plain != metric else 'measured here'
            row[f'{plain}, {source}'] = f'{value:.4g}'
    if 'Weights' in model:
        address = model['Weights']
        shipped = root / 'asvit_mm' / 'weights' / address.rpartition('/')[2]
        megabytes = shipped.is_file() and shipped.stat().st_size / 1e6
        row['Weights'] = (
            f'[{megabytes:.1f} MB]({link(shipped)})' if megabytes else f'[download]({address})'
        )
    return row
