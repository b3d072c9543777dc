"""Do the measures predict trained accuracy? Sample architectures, measure, train, and correlate.

As-ViT (arXiv 2202.11921, section 3.2) answers it by Kendall's tau between a measure and the accuracy of
sampled architectures.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..arch import PRESETS, SEARCH_SPACE, Architecture, SearchSpace
from ..cost import count_params
from ..errors import InputError
from ..measures import MEASURES, find_measures, measure
from ..nas import space_for
from ..nas.evaluator import usable
from ..runs.run import make_measure
from ..runs.training import train_and_test, training_config
from .plots import plot_correlations
from .settings import CorrelateSettings
from .statistics import CONFIDENCE, MAX_SEEDS, RESAMPLES, kendall_tau
from .study import Record, StudyFolder, take_share
from .tables import markdown_table

# Architectures are drawn from a pool, by whose sizes the strata are cut.
POOL = 2000
POOL_PER_DRAWN = 20

PAGE = """# Do the measures predict trained accuracy?

{num_archs} seed architectures ({strata} strata of parameter count, equally many of each), each measured on \
{repeat} network(s) without training and trained for {epochs} epoch(s) on {data} at {img_size} pixels by the \
same recipe, seed {seed}, {device}, {threads} thread(s) a process.

    {command}

Top-1 of the last weights on the validation set: {lowest:.2f} to {highest:.2f} %, {distinct} distinct values.

{table}

- tau: Kendall tau-b between the measure and top-1. Positive means that the measure predicts: where lower is \
better, the measure is negated first.
- interval: {confidence:.0%}, bootstrap ({resamples} resamples of the architectures).
- n: architectures that the measure has a value for; the others are left out.

![Accuracy against every measure](scatter.png)
"""


def run_study(settings: CorrelateSettings) -> Record | None:
    """Run the study, or continue one, and write records, report, table and picture.

    With a launcher each process takes its share of the architectures, and the main rank writes the report.

    Returns:
        the content of report.json; None in the other processes.

    Raises:
        InputError: a user's mistake; nothing has been trained.
        KeyboardInterrupt: Ctrl-C; says how far the study is and how to go on.
    """
    asked = MEASURES if 'all' in settings.measures else settings.measures
    names = [info.name for info in find_measures(dict.fromkeys(asked))]
    share, device = take_share(settings)
    data, complexity = settings.source, make_measure(settings)

    def size(arch: Architecture) -> int:
        return count_params(arch, data.num_classes, img_size=data.img_size)

    archs = sample_architectures(
        settings.num_archs, size, settings.strata, settings.seed, space_for(settings.pixels)
    )
    training_config(PRESETS['seed'], data, epochs=settings.epochs)  # fails now or never
    folder = StudyFolder(settings, 'correlate', share)

    def study(name: str, index: int) -> Record:
        scores = measure(
            archs[index],
            complexity.images,
            names=names,
            img_size=settings.pixels,
            repeat=settings.repeat,
            seed=(settings.seed, index),
            device=device,
        )
        cfg = training_config(
            archs[index],
            data,
            epochs=settings.epochs,
            seed=settings.seed,
            workers=settings.workers,
        )
        return {
            'params': size(archs[index]),
            'measures': {key: usable(score) for key, score in scores.items()},
            'top1': train_and_test(cfg, folder.path, name, device).top1,
        }

    with folder.resumable():
        records = folder.complete(
            {str(arch): index for index, arch in enumerate(archs)},
            study,
            lambda record: f'top-1 {record["top1"]:.2f} %',
        )
    return report(folder, names, records) if share.rank == 0 else None


def sample_architectures(
    num: int,
    size: Callable[[Architecture], int],
    strata: int = 4,
    seed: int = 0,
    space: SearchSpace = SEARCH_SPACE,
) -> list[Architecture]:
    """Distinct seeds of a search space, equally many of each stratum of size.

    A pool of at least 2,000 distinct seeds is drawn uniformly, ranked by size and cut into ``strata`` parts
    of equal number (quantiles); each gives its share of ``num``. The result is shuffled, so that taking every
    other one does not take all of a size.

    Args:
        num: architectures to draw; where ``strata`` does not divide it, shares differ by one.
        strata: how many; 1 is a uniform sample.
        seed: decides the pool, the draw and the order.

    Raises:
        InputError: fewer architectures than strata, no stratum, or more than 10,000 architectures.
    """
    if not 1 <= strata <= num:
        raise InputError(
            f'{num} architectures cannot be drawn from {strata} strata: give from 1 to {num} strata'
        )
    if num > MAX_SEEDS:
        raise InputError(f'{num} architectures are too many for a study: give at most {MAX_SEEDS}')
    rng = np.random.default_rng(seed)
    pool: dict[Architecture, int] = {}
    while len(pool) < max(POOL, POOL_PER_DRAWN * num):
        arch = space.sample(rng)
        if arch not in pool:
            pool[arch] = size(arch)
    archs = list(pool)
    ranks = np.empty(len(pool), dtype=np.int64)
    ranks[np.argsort(list(pool.values()), kind='stable')] = np.arange(len(pool))
    stratum = ranks * strata // len(pool)
    drawn: list[int] = []
    for s in range(strata):
        share = (s + 1) * num // strata - s * num // strata
        drawn += rng.choice(np.flatnonzero(stratum == s), share, replace=False).tolist()
    return [archs[drawn[i]] for i in rng.permutation(num)]


def summarise(
    names: Sequence[str], records: Sequence[Mapping[str, Any]], seed: int
) -> list[Record]:
    """Correlation of each measure with the accuracy; plain data.

    Args:
        records: of all architectures: ``measures`` (values, or None) and ``top1``.
        seed: decides the resamples.

    Returns:
        For each measure its ``name``, ``title``, ``better`` ('higher' or 'lower'), the number ``n`` of
        architectures with a value, and :func:`.statistics.kendall_tau`.
    """
    found = []
    for name in names:
        info = MEASURES[name]
        sign = 1 if info.higher_is_better else -1
        used = [record for record in records if record['measures'][name] is not None]
        values = [sign * record['measures'][name] for record in used]
        tau = kendall_tau(values, [record['top1'] for record in used], seed)
        better = 'higher' if info.higher_is_better else 'lower'
        found.append({'name': name, 'title': info.title, 'better': better, 'n': len(used), **tau})
    return found


def report(folder: StudyFolder, names: Sequence[str], records: Sequence[Record]) -> Record:
    """Correlate, draw and write the report; its content."""
    measures = summarise(names, records, folder.settings.seed)
    plot_correlations(measures, records, folder.path / 'scatter.png')
    top1 = [record['top1'] for record in records]
    table = [
        {
            'measure': one['title'],
            'better': one['better'],
            'tau': '-' if one['tau'] is None else f'{one["tau"]:+.2f}',
            'interval': '-' if one['low'] is None else f'{one["low"]:+.2f} to {one["high"]:+.2f}',
            'n': str(one['n']),
        }
        for one in measures
    ]
    words = {
        'table': markdown_table(table),
        'lowest': min(top1),
        'highest': max(top1),
        'distinct': len(set(top1)),
        'confidence': CONFIDENCE,
        'resamples': RESAMPLES,
    }
    return folder.write_report(PAGE, words, measures=measures, records=records)
