"""The study: measure networks of a benchmark table, and judge each measure by the table's accuracies.

Records hold measures and costs, never accuracies: those stay in the table.
"""

import dataclasses
import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...data.images import load_images
from ...errors import InputError, one_line
from ...measures import MEASURES, AnyModel, ProbeNetwork, Score, length_distortion, measure_network
from ...measures.any_model import count_multiply_adds
from ...measures.curves import curvatures
from ...utils.timing import now
from ..settings import RefereeSettings
from ..study import Record, StudyFolder, take_share
from .judge import report
from .tables import Entry, read_table

CURVATURES = ('extrinsic_curvature', 'gauss_map_length')
# The length distortion on a circle whose images have pixels of standard deviation 1, as real ones.
WIDE = 'length_distortion_wide'
ON_IMAGES = tuple(name for name, info in MEASURES.items() if 'images' in info.needs)
ALONE = tuple(n for n in MEASURES if n not in (*CURVATURES, 'params', 'flops'))


def run_study(settings: RefereeSettings) -> Record | None:
    """Run the study, or continue one, and write records, report, table and picture.

    With a launcher each process takes its share of the networks, and the main rank writes the report.

    Returns:
        the content of report.json; None in the other processes.

    Raises:
        InputError: a user's mistake, or a network that cannot be built or has other parameters than the
            table says.
        KeyboardInterrupt: Ctrl-C; says how far the study is and how to go on.
    """
    entries = read_table(settings.table)
    target = settings.target or next(iter(entries[0].accuracies))
    if not all(target in entry.accuracies for entry in entries):
        known = ', '.join(entries[0].accuracies)
        raise InputError(
            f'the table has no accuracy {target!r} of every network: choose from {known}'
        )
    if settings.networks > len(entries):
        raise InputError(
            f'--networks {settings.networks} is too many: the table has {len(entries)}'
        )
    share, device = take_share(settings)
    images = {
        'images': _batches(settings, settings.source),
        'noise': _batches(settings, 'noise'),
    }
    checksum = hashlib.sha256(Path(settings.table).read_bytes()).hexdigest()
    folder = StudyFolder(settings, 'referee', share, table_sha256=checksum)
    order = np.random.default_rng(settings.seed).permutation(len(entries))[: settings.networks]

    def study(name: str, place: int) -> Record:
        entry = entries[order[place]]
        repeats = settings.repeat if place < settings.repeated else 1
        networks = [_measure(entry, settings, place, i, images, device) for i in range(repeats)]
        return {'place': place, 'entry': int(order[place]), **_costs(entry), 'networks': networks}

    with folder.resumable():
        records = folder.complete(
            {f'{place:04d}': place for place in range(len(order))},
            study,
            lambda record: f'entry {record["entry"]}',
        )
    if share.rank > 0:
        return None
    accuracies = [entries[record['entry']].accuracies[target] for record in records]
    return report(folder, target, records, accuracies)


def _measure(
    entry: Entry,
    settings: RefereeSettings,
    place: int,
    index: int,
    images: dict[str, Tensor],
    device: torch.device,
) -> Record:
    """Values (None: bad), values on noise, and seconds of one network by the name of the measure."""

    def create() -> AnyModel:
        return AnyModel(_build(entry, settings.pixels), settings.pixels)

    probe = ProbeNetwork(
        create,
        settings.pixels,
        (settings.seed, place),
        index,
        images['images'][index],
        device,
    )
    scores = measure_network(probe, ALONE)
    radius = len(probe.circle.basis) ** 0.5
    wide = dataclasses.replace(probe.circle, basis=radius * probe.circle.basis)
    start = now(device)
    scores[WIDE] = length_distortion(probe.norm_free, wide)
    middle = now(device)
    both = curvatures(probe.norm_free, probe.circle)
    seconds = {WIDE: middle - start} | dict.fromkeys(CURVATURES, now(device) - middle)
    scores.update(zip(CURVATURES, both, strict=True))
    seconds |= {name: scores[name].seconds for name in ALONE}
    noise = {}
    if place < settings.repeated:
        other = dataclasses.replace(probe, batch=images['noise'][index])
        other.__dict__['network'] = probe.network  # the same weights
        noise = measure_network(other, ON_IMAGES)
    return {'values': _plain(scores), 'noise': _plain(noise), 'seconds': seconds}


def _costs(entry: Entry) -> Record:
    """Baselines at 224 x 224 pixels; parameters with the head, as tables count them."""
    with torch.device('meta'):
        network = _build(entry, 224)
    params = sum(parameter.numel() for parameter in network.parameters())
    if entry.params not in (None, params):
        raise InputError(f'a network has {params} parameters, and the table says {entry.params}')
    model = AnyModel(network, 224)
    baselines = {'params': params, 'flops': count_multiply_adds(model, 224), **entry.baselines}
    return {'baselines': {name: float(value) for name, value in baselines.items()}}


def _build(entry: Entry, img_size: int) -> nn.Module:
    try:
        return entry.build(img_size)
    except InputError:
        raise
    except Exception as error:  # whatever a table's factory raises
        raise InputError(f'a network of the table cannot be built: {one_line(error)}') from error


def _batches(settings: RefereeSettings, source: Any) -> Tensor:
    size = settings.pixels
    found = load_images(source, size, settings.repeat * settings.batch_size, settings.seed)
    return found.reshape(settings.repeat, settings.batch_size, 3, size, size)


def _plain(scores: dict[str, Score]) -> dict[str, float | None]:
    return {
        name: score.value if math.isfinite(score.value) else None for name, score in scores.items()
    }
