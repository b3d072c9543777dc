"""Metafiles and model cards that agree with the configs: whatever can be counted is counted again.

A metafile's names, results and weights are what somebody wrote or
``tools/model_converters/publish_model.py`` recorded; its costs, addresses and architecture strings follow
from the configs and from one setting, and so do the tables in pages, which stand between
``<!-- models: configs/FOLDER -->`` and ``<!-- end -->``.
"""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import Config

from ..arch import as_architecture
from ..checkpoints.hosting import PUBLISHED, SHIPPED, WEIGHTS_URL, sha256
from ..cost import count_macs, count_params, schedule_share
from ..engine.config import is_detector, load_config
from ..errors import InputError
from ..tokens import as_pair
from ..utils.units import format_count
from .index import IMAGE_SIZE

BLOCK = re.compile(r'(<!-- models: (configs/\w+) -->\n).*?(<!-- end -->)', re.DOTALL)
PUBLISHED_METRIC = 'Published '
NONE = '-'


DetectorCounter = Callable[[Path, tuple[int, int]], tuple[int, int]]


def refreshed(
    root: Path, count_detector: DetectorCounter, recount: bool = False
) -> dict[Path, str]:
    """What the metafiles and the pages with tables of models have to contain.

    Args:
        root: of the repository.
        count_detector: parameters and multiply-adds of the detector of a config for an image of (height,
            width), which takes a prediction.
        recount: whether detectors are counted whose metafile has figures already.

    Returns:
        the text of each file.

    Raises:
        InputError: a metafile with a model whose config is missing, or weights that are not what they should
            be.
    """
    index = yaml.safe_load((root / 'model-index.yml').read_text(encoding='utf-8'))
    texts, contents = {}, {}
    for name in index['Import']:
        content = yaml.safe_load((root / name).read_text(encoding='utf-8'))
        content['Models'] = [
            _model(root, entry, count_detector, recount) for entry in content['Models']
        ]
        contents[str(Path(name).parent)] = content
        texts[root / name] = dump(content)
    for page in [*sorted(root.glob('configs/*/README.md')), root / 'docs' / 'zoo.md']:
        text = page.read_text(encoding='utf-8')

        def table(block: re.Match[str], page: Path = page) -> str:
            if block[2] not in contents:
                raise InputError(f'{page}: model-index.yml imports no metafile of {block[2]}')
            return f'{block[1]}\n{_table(root, page.parent, contents[block[2]])}\n{block[3]}'

        texts[page] = BLOCK.sub(table, text)
    return texts


def dump(content: Mapping[str, Any]) -> str:
    """A metafile's content as YAML."""
    return yaml.safe_dump(dict(content), sort_keys=False, width=110, allow_unicode=True)


def _model(
    root: Path, entry: dict[str, Any], count_detector: DetectorCounter, recount: bool
) -> dict[str, Any]:
    config = root / entry['Config']
    cfg = load_config(config)
    metadata = dict(entry.get('Metadata') or {})
    metadata.pop('Training FLOPs (%)', None)
    try:
        arch = as_architecture(cfg.model.backbone.arch)
    except InputError as error:
        raise InputError(f'{entry["Name"]}: {error}') from None
    metadata['Architecture String'] = str(arch)
    size = cfg.model.backbone.img_size if 'img_size' in cfg.model.backbone else 224
    if is_detector(cfg):
        if IMAGE_SIZE not in metadata:
            raise InputError(
                f'{entry["Name"]} is a detector: say in its entry what size its costs are for, as '
                f'Metadata: {{{IMAGE_SIZE}: 800x1344}}'
            )
        if recount or 'FLOPs' not in metadata:
            height, width = map(int, metadata[IMAGE_SIZE].split('x'))
            metadata['Parameters'], metadata['FLOPs'] = count_detector(config, (height, width))
    else:
        metadata.pop(IMAGE_SIZE, None)
        classes = cfg.model.head.num_classes
        metadata['FLOPs'] = count_macs(arch, size, classes)
        metadata['Parameters'] = count_params(arch, classes, img_size=size)
        if share := _training_share(cfg, arch, size, classes):
            metadata['Training FLOPs (%)'] = round(100 * share, 1)
    first = {key: metadata.pop(key) for key in ('FLOPs', 'Parameters') if key in metadata}
    kept = {key: value for key, value in entry.items() if key not in ('Metadata', 'Weights')}
    result = {**kept, 'Metadata': {**first, **metadata}}
    order = ('Name', 'In Collection', 'Metadata', 'Results', 'Config')
    result = {key: result[key] for key in order if key in result}
    if 'Weights' in entry:
        name = entry['Weights'].rpartition('/')[2]
        _check_weights(name, metadata.get('Weights SHA-256'))
        result['Weights'] = f'{WEIGHTS_URL}/{name}'
    return result


def _check_weights(name: str, digest: str | None) -> None:
    match = PUBLISHED.fullmatch(name)
    if match is None or digest is None or not digest.startswith(match[3]):
        raise InputError(
            f'{name} is not named by its SHA-256 ({digest}): tools/model_converters/publish_model.py does it'
        )
    if (SHIPPED / name).is_file() and sha256(SHIPPED / name) != digest:
        raise InputError(f'{SHIPPED / name} is not what was published: take it from the history')


def _training_share(cfg: Config, arch: Any, size: Any, classes: int) -> float | None:
    """Multiply-adds of training in phases, as a share of training at the full grid; None: no phases."""
    for hook in cfg.get('custom_hooks') or ():
        if hook['type'] == 'asvit_mm.ProgressiveTokenizationHook':
            phases = [(phase['end'], phase['stride']) for phase in hook['phases']]
            return schedule_share(arch, phases, as_pair(size, 'img_size'), classes)
    return None


def _table(root: Path, folder: Path, content: Mapping[str, Any]) -> str:
    """A Markdown table of a metafile's models, with links from a page in ``folder``."""
    models = content['Models']
    metrics = list(
        dict.fromkeys(m for one in models for r in one.get('Results', ()) for m in r['Metrics'])
    )
    shares = any('Training FLOPs (%)' in model['Metadata'] for model in models)
    titles = ['Model', 'Architecture', 'Parameters', 'Multiply-adds']
    titles += ['Training multiply-adds'] if shares else []
    titles += [_title(metric) for metric in metrics]
    titles += ['Weights'] if any('Weights' in model for model in models) else []
    rows = [titles, ['---', '---', *['---:'] * (len(titles) - 2)]]
    for model in models:
        metadata = model['Metadata']
        size = f' at {metadata[IMAGE_SIZE]}' if IMAGE_SIZE in metadata else ''
        row = [
            f'[{model["Name"]}]({_link(root / model["Config"], folder)})',
            f'`{metadata["Architecture String"]}`'.replace('|', r'\|'),
            f'{metadata["Parameters"]:,}',
            format_count(metadata['FLOPs']) + size,
        ]
        row += (
            [
                f'{metadata["Training FLOPs (%)"]:.1f} %'
                if 'Training FLOPs (%)' in metadata
                else '100 %'
            ]
            if shares
            else []
        )
        values = {m: v for r in model.get('Results', ()) for m, v in r['Metrics'].items()}
        row += [f'{values[metric]:.4g}' if metric in values else NONE for metric in metrics]
        if 'Weights' in titles:
            row.append(_weights(root, model, folder))
        rows.append(row)
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows) + '\n'


def _title(metric: str) -> str:
    plain = metric.removeprefix(PUBLISHED_METRIC)
    source = 'published' if plain != metric else 'measured here'
    return f'{plain}, {source}'


def _weights(root: Path, model: Mapping[str, Any], folder: Path) -> str:
    if 'Weights' not in model:
        return NONE
    address = model['Weights']
    shipped = root / 'asvit_mm' / 'weights' / address.rpartition('/')[2]
    if not shipped.is_file():
        return f'[download]({address})'
    return f'[{shipped.stat().st_size / 1e6:.1f} MB]({_link(shipped, folder)})'


def _link(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()
