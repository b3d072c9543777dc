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
from .judge import ON_NOISE, report
from .tables import Entry, read_table

CURVES = ('length_distortion', 'extrinsic_curvature', 'gauss_map_length')
# Of measures on a circle whose images have pixels of standard deviation 1, as real ones.
WIDE = '_wide'
KAPPA = 'ntk_condition_number'
ON_IMAGES = tuple(name for name, info in MEASURES.items() if 'images' in info.needs)
ALONE = tuple(n for n in MEASURES if n not in (*CURVES, 'params', 'flops'))


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
    entries = [entry for entry in entries if target in entry.accuracies]
    if not entries:
        known = dict.fromkeys(name for e in read_table(settings.table) for name in e.accuracies)
        raise InputError(f'the table has no accuracy {target!r}: choose from {", ".join(known)}')
    share, device = take_share(settings)
    images = {
        'images': _batches(settings, settings.source),
        'noise': _batches(settings, 'noise'),
    }
    if entries[0].ours is not None:
        # The networks' order is that in which they were drawn, so that more of them change no half.
        limits = entries[0].ours.trained.limits
        if limits.img_size != settings.pixels:
            raise InputError(f'networks of {target!r} take --img-size {limits.img_size}')
        chosen = {e.ours.place: e for e in entries[: settings.networks] if e.ours is not None}
        facts: Record = {'budget': dataclasses.asdict(limits)}
    else:
        facts = {'table_sha256': hashlib.sha256(Path(settings.table).read_bytes()).hexdigest()}
        order = np.random.default_rng(settings.seed).permutation(len(entries))
        chosen = {place: entries[i] for place, i in enumerate(order[: settings.networks])}
    if len(chosen) < 8:
        raise InputError(f'the table has {len(chosen)} networks of {target!r}: 8 are the least')
    folder = StudyFolder(settings, 'referee', share, **facts)

    def study(name: str, place: int) -> Record:
        entry = chosen[place]
        repeats = settings.repeat if place < settings.repeated else 1
        networks = [_measure(entry, settings, place, i, images, device) for i in range(repeats)]
        return {'place': place, **_costs(entry), 'networks': networks}

    with folder.resumable():
        records = folder.complete(
            {f'{place:04d}': place for place in chosen},
            study,
            lambda record: f'{len(record["networks"])} measured',
        )
    if share.rank > 0:
        return None
    return report(folder, target, records, list(chosen.values()))


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
        create if entry.ours is None else entry.ours.arch,
        settings.pixels,
        (settings.seed, place),
        index,
        images['images'][index],
        device,
    )
    scores = measure_network(probe, ALONE)
    seconds = {name: scores[name].seconds for name in ALONE}
    radius = len(probe.circle.basis) ** 0.5
    wide = dataclasses.replace(probe.circle, basis=radius * probe.circle.basis)
    for suffix, circle in (('', probe.circle), (WIDE, wide)):
        length, *both = (name + suffix for name in CURVES)
        start = now(device)
        scores[length] = length_distortion(probe.norm_free, circle)
        middle = now(device)
        scores.update(zip(both, curvatures(probe.norm_free, circle), strict=True))
        seconds |= {length: middle - start} | dict.fromkeys(both, now(device) - middle)
    other = dataclasses.replace(probe, batch=images['noise'][index])
    other.__dict__['network'] = probe.network  # the same weights
    noise = measure_network(other, ON_IMAGES if place < settings.repeated else (KAPPA,))
    scores[ON_NOISE], seconds[ON_NOISE] = noise[KAPPA], noise[KAPPA].seconds
    return {'values': _plain(scores), 'noise': _plain(noise), 'seconds': seconds}


def _costs(entry: Entry) -> Record:
    """Baselines; where the table lacks costs, at 224 x 224 pixels, parameters with the head."""
    if entry.ours is not None:
        return {'baselines': {name: float(value) for name, value in entry.baselines.items()}}
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
