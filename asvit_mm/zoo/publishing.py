"""Publishing: weights alone, in a file named by its SHA-256, and their entry in a metafile."""

import hashlib
import io
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from .. import __version__
from ..checkpoints.hosting import WEIGHTS_URL, local_path, sha256
from ..checkpoints.reading import check_fit, classes_of, read_checkpoint, save_safetensors
from ..config_writer.shipped import shipped_tools
from ..engine.arguments import run_tool
from ..engine.models import build_model, load_model_config
from ..errors import InputError
from ..utils.files import atomic_write_bytes, atomic_write_text
from ..utils.timing import device_name
from .cards import dump
from .index import models

FORMATS = ('pth', 'safetensors')
# Metrics of tools/test.py: task and name in OpenMMLab's metafiles, and the factor that makes them per cent.
METRICS = {
    'accuracy/top1': ('Image Classification', 'Top 1 Accuracy', 1),
    'accuracy/top5': ('Image Classification', 'Top 5 Accuracy', 1),
    'coco/bbox_mAP': ('Object Detection', 'box AP', 100),
    'coco/bbox_mAP_50': ('Object Detection', 'box AP50', 100),
    'coco/segm_mAP': ('Instance Segmentation', 'mask AP', 100),
    'coco/segm_mAP_50': ('Instance Segmentation', 'mask AP50', 100),
    'mIoU': ('Semantic Segmentation', 'mIoU', 1),
}


@dataclass(frozen=True)
class TrainedWeights:
    """What is published of a checkpoint.

    Attributes:
        weights: all of the model's.
        meta: config, version, epoch and iteration, and the names of the classes.
        date: YYYYMMDD, of the checkpoint.
    """

    weights: dict[str, Tensor]
    meta: dict[str, Any]
    date: str


def read_trained(
    config: str,
    checkpoint: str,
    *,
    averaged: bool = True,
    half: bool = False,
    options: Mapping[str, Any] | None = None,
) -> TrainedWeights:
    """Read what can be published of a checkpoint; optimizer, schedules and log are dropped.

    Args:
        config: that the checkpoint was trained with; the file holds every weight of its model.
        averaged: if the run had MMEngine's EMAHook: the averaged weights rather than the trained ones.
        half: store floating-point weights in half precision; loading converts them to a model's own.
        options: overrides of the config.

    Raises:
        InputError: a config or checkpoint that cannot be read or do not fit each other, no averaged weights,
            or weights that half precision cannot represent.
    """
    checkpoint = local_path(checkpoint)
    content = read_checkpoint(checkpoint)
    meta = content.get('meta')
    meta = meta if isinstance(meta, dict) else {}
    weights = _weights(content, checkpoint, averaged)
    cfg = load_model_config(config, options)
    check_fit(build_model(cfg, config), weights, checkpoint, optional=(), resampled='')
    if half:
        weights = {name: _halved(name, value) for name, value in weights.items()}
    kept = {
        'config': Path(config).stem,
        'asvit_mm_version': __version__,
        **{key: meta[key] for key in ('epoch', 'iter') if key in meta},
    }
    if classes := classes_of(meta.get('dataset_meta')):
        kept['dataset_meta'] = classes
    return TrainedWeights(weights, kept, _date(meta, checkpoint))


def publish(
    config: str,
    checkpoint: str,
    out_dir: str | os.PathLike[str],
    *,
    suffix: str = 'pth',
    **options: Any,
) -> Path:
    """Write the weights of a checkpoint to ``{config}_{YYYYMMDD}-{first 8 of SHA-256}.{suffix}``.

    The same checkpoint always gives the same bytes; the date is that of the checkpoint.

    Args:
        config, checkpoint, options: of :func:`read_trained`.
        suffix: 'pth' or 'safetensors'.

    Returns:
        the path of the file.

    Raises:
        InputError: see :func:`read_trained`; or a folder that cannot be written.
    """
    if suffix not in FORMATS:
        raise InputError(f'{suffix!r} is no format of weights: {" or ".join(FORMATS)}')
    trained = read_trained(config, checkpoint, **options)
    if suffix == 'pth':
        buffer = io.BytesIO()
        torch.save({'meta': trained.meta, 'state_dict': trained.weights}, buffer)
        data = buffer.getvalue()
    else:
        data = save_safetensors(trained.weights, trained.meta)
    digest = hashlib.sha256(data).hexdigest()
    name = f'{Path(config).stem}_{trained.date}-{digest[:8]}.{suffix}'
    try:
        return atomic_write_bytes(Path(out_dir) / name, data)
    except OSError as error:
        raise InputError(
            f'{str(out_dir)!r} cannot be written to ({error.strerror}): name another'
        ) from None


def evaluate(
    config: str, weights: Path, work_dir: Path, options: Sequence[str]
) -> dict[str, float]:
    """Metrics of published weights on the config's test set, by running tools/test.py.

    Raises:
        InputError: the tool failed; it has said why.
    """
    out = work_dir / 'test.json'
    given = ['--cfg-options', *options] if options else []
    script = shipped_tools() / 'test.py'
    run_tool('Evaluate them', script, config, weights, '--work-dir', work_dir, '--out', out, *given)
    return dict(yaml.safe_load(out.read_text(encoding='utf-8')))


def metafile_of(config: str) -> Path:
    """The zoo's metafile that has an entry for the config, or else the one beside the config."""
    path = Path(config)
    for model in models().values():
        if os.path.realpath(model.config) == os.path.realpath(path):
            return model.metafile.resolve()
    return path.with_name('metafile.yml')


def record(
    metafile: Path,
    config: str,
    weights: Path,
    metrics: Mapping[str, float] | None,
    dataset: str = '',
    options: Sequence[str] = (),
) -> dict[str, Any]:
    """Write address, SHA-256 and, where measured, metrics of weights into their metafile.

    The entry has the config's name; it is added where missing, and so is the metafile. What was measured with
    other weights is dropped.

    Args:
        dataset: that the metrics were measured on.
        options: overrides of the config that they were measured with.

    Returns:
        the entry.

    Raises:
        InputError: not a metafile.
    """
    name = Path(config).stem
    content = read_metafile(metafile)
    entries = [entry for entry in content['Models'] if entry.get('Name') == name]
    if not entries:
        collection = content['Collections'][0]['Name'] if content['Collections'] else 'As-ViT'
        entries = [{'Name': name, 'In Collection': collection, 'Config': config, 'Metadata': {}}]
        content['Models'] += entries
    (entry,) = entries
    entry['Weights'] = f'{WEIGHTS_URL}/{weights.name}'
    entry.setdefault('Metadata', {})['Weights SHA-256'] = sha256(weights)
    results = [r for r in entry.pop('Results', None) or () if r.get('Source') != 'measured here']
    if metrics is not None:
        given = ['--cfg-options', *options] if options else []
        command = shlex.join(['python', 'tools/test.py', config, weights.as_posix(), *given])
        results += as_results(metrics, dataset, command)
    if results:
        entry['Results'] = results
    atomic_write_text(metafile, dump(content))
    return dict(entry)


def read_metafile(path: Path) -> dict[str, Any]:
    """The content of a metafile; what a new one begins with where there is none.

    Raises:
        InputError: it is not a metafile.
    """
    if not path.exists():
        return {'Collections': [{'Name': 'As-ViT'}], 'Models': []}
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
        parts = (content['Models'], content['Collections'])
        names = [entry['Name'] for part in parts for entry in part]
        if all(isinstance(part, list) for part in parts) and len(set(names)) == len(names):
            return dict(content)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        pass
    raise InputError(
        f'{path} is no metafile with Collections and Models, each with a Name of its own: name another'
    )


def as_results(metrics: Mapping[str, float], dataset: str, command: str) -> list[dict[str, Any]]:
    """Metrics of tools/test.py as the results of a metafile's entry."""
    found: dict[str, dict[str, float]] = {}
    for key, (task, name, factor) in METRICS.items():
        if key in metrics:
            found.setdefault(task, {})[name] = round(factor * float(metrics[key]), 3)
    return [
        {
            'Task': task,
            'Dataset': dataset,
            'Metrics': values,
            'Source': 'measured here',
            'Command': command,
            'Hardware': device_name('cpu' if not torch.cuda.is_available() else 'cuda'),
        }
        for task, values in found.items()
    ]


def _weights(content: Mapping[str, Any], path: str, averaged: bool) -> dict[str, Tensor]:
    # MMEngine's EMAHook swaps the two when it saves: state_dict holds the averaged weights.
    given = content.get('state_dict', content)
    if not averaged:
        if 'ema_state_dict' not in content:
            raise InputError(f'{path!r} is of a run without averaged weights: leave --trained out')
        given = {
            key.removeprefix('module.'): value
            for key, value in dict(content['ema_state_dict']).items()
            if key.startswith('module.')
        }
    if not all(isinstance(value, Tensor) for value in given.values()):
        raise InputError(
            f'{path!r} has no state_dict of tensors: give a checkpoint that tools/train.py wrote'
        )
    # Contiguous copies, or the storage that a tensor shares with others would be written as well.
    return {
        re.sub(r'^module\.', '', key): value.detach().clone().contiguous()
        for key, value in given.items()
    }


def _halved(name: str, value: Tensor) -> Tensor:
    if not value.is_floating_point():
        return value
    half = value.half()
    if not torch.isfinite(half).all():
        raise InputError(f'half precision cannot hold {name}: leave --half out')
    return half


def _date(meta: Mapping[str, Any], checkpoint: str) -> str:
    """YYYYMMDD, when MMEngine wrote the checkpoint, or the file's own date."""
    match = re.match(r'\d{8}', str(meta.get('time', '')))
    if match:
        return match[0]
    return datetime.fromtimestamp(Path(checkpoint).stat().st_mtime).strftime('%Y%m%d')
