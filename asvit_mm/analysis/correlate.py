"""Do the measures predict trained accuracy? Sample architectures, measure, train, and correlate.

As-ViT (arXiv 2202.11921, section 3.2) answers it by Kendall's tau between a measure and the accuracy of
sampled architectures.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy import stats

from ..arch import PRESETS, SEARCH_SPACE, Architecture
from ..cost import count_macs, count_params
from ..data.images import load_images
from ..errors import InputError
from ..measures import MEASURES
from ..measures import measure as measure_architecture
from ..nas.evaluator import usable
from ..runs.progress import print_summary
from ..utils.units import format_count
from .plots import plot_correlations
from .records import Record, StudyFolder, markdown_table, shown, study_command, take_share
from .settings import CorrelateSettings
from .statistics import CONFIDENCE, MAX_SEEDS, RESAMPLES, correlate
from .training import train_and_test, training_config

# Architectures are drawn from a pool, by whose sizes the strata are cut.
POOL = 2000
POOL_PER_DRAWN = 20
# Kendall's tau against trained accuracy as published (As-ViT, section 3.2).
PUBLISHED_TAU = {'length_distortion': 0.49}
TABLE_WIDTH = 120

REPORT = """# Do the measures predict trained accuracy?

{num} seed architectures ({strata} strata of parameter count, equally many of each), each measured on \
{repeat} networks without training and trained for {epochs} epochs on {data} at {img_size} pixels by the \
same recipe, seed {seed}.

    {command}

Top-1 of the last epoch on the validation set: {min:.2f} to {max:.2f} %, median {median:.2f} %, {distinct} \
distinct values. Training one architecture took {seconds:.0f} s (median; {device}, {threads} thread(s) a \
process, torch {torch}).

{table}

- tau: Kendall tau-b between the measure and top-1, with its bootstrap {confidence:.0%} interval \
({resamples:,} resamples of the architectures) and its p-value. Positive means that the measure predicts: \
where lower is better, the measure is negated first.
- within strata: tau over pairs of similar size only, what is left when size is held; p by permutation \
within the strata.
- tau (loss): tau against the cross-entropy on the validation set, lower being better; it has no ties, \
which top-1 on few images has.
- published: of the As-ViT paper, on other data and at another budget.
{left_out}
![Accuracy against every measure](scatter.png)
"""


@dataclass(frozen=True)
class Sampled:
    """An architecture of the study, its parameters and the stratum of size that it was drawn from."""

    arch: Architecture
    params: int
    stratum: int


def run_study(settings: CorrelateSettings) -> dict[str, Any] | None:
    """Run the study, or continue one, and write records, report, table and picture.

    With a launcher each process takes its share of the architectures, and the main rank writes the report.

    Returns:
        the content of report.json; None in the other processes.

    Raises:
        InputError: a user's mistake; nothing has been trained.
        KeyboardInterrupt: Ctrl-C; says how far the study is and how to go on.
    """
    names = measure_names(settings.measures)
    share, device = take_share(settings)
    data = settings.source

    def size(arch: Architecture) -> int:
        return count_params(arch, data.num_classes, img_size=data.img_size)

    sampled = sample_architectures(
        settings.num_archs, size, strata=settings.strata, seed=settings.seed
    )
    count = settings.repeat * settings.batch_size
    images = load_images(data, settings.pixels, count, settings.seed)
    images = images.reshape(settings.repeat, settings.batch_size, *images.shape[1:])
    training_config(PRESETS['seed'], data, epochs=settings.epochs)  # fails now or never
    architectures = [
        {
            'arch': str(s.arch),
            'params': s.params,
            'macs': count_macs(s.arch, data.img_size, data.num_classes),
            'stratum': s.stratum,
        }
        for s in sampled
    ]
    folder = StudyFolder(settings, share, architectures)
    folder.open()

    def complete(index: int) -> Record:
        arch = sampled[index].arch
        scores, measuring = _measure(settings, names, arch, index, images, device)
        begin = time.perf_counter()
        cfg = training_config(
            arch, data, epochs=settings.epochs, seed=settings.seed, workers=settings.workers
        )
        trained = train_and_test(cfg, folder.path, index, device)
        training = round(time.perf_counter() - begin, 3)
        return {
            'measures': scores,
            'trained': trained.figures,
            'seconds': {'measures': measuring, 'training': training},
        }

    with folder.resumable():
        records = folder.complete(complete, _describe)
    return _report(settings, folder, records, names) if share.rank == 0 else None


def measure_names(given: Sequence[str]) -> tuple[str, ...]:
    """The measures, each once, in the registry's order; 'all' stands for all.

    Raises:
        InputError: no such measure.
    """
    unknown = [name for name in given if name not in ('all', *MEASURES)]
    if unknown or not given:
        raise InputError(
            f'--measures {unknown[0] if unknown else ""!r} is not known: give all or some of '
            f'{", ".join(MEASURES)}'
        )
    return tuple(name for name in MEASURES if 'all' in given or name in given)


def sample_architectures(
    num: int, count_params: Callable[[Architecture], int], *, strata: int = 4, seed: int = 0
) -> list[Sampled]:
    """Distinct seeds of the search space, equally many of each stratum of parameter count.

    A pool of at least 2,000 distinct seeds is drawn uniformly, ranked by parameters and cut into
    ``strata`` parts of equal number (quantiles); each gives its share of ``num``. The result is
    shuffled, so that taking every other one does not take all of a size.

    Args:
        num: architectures to draw; where ``strata`` does not divide it, shares differ by one.
        count_params: the size that the strata are of.
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
        arch = SEARCH_SPACE.sample(rng)
        if arch not in pool:
            pool[arch] = count_params(arch)
    archs, params = list(pool), list(pool.values())
    ranks = np.empty(len(pool), dtype=np.int64)
    ranks[np.argsort(params, kind='stable')] = np.arange(len(pool))
    stratum = ranks * strata // len(pool)
    drawn: list[int] = []
    for s in range(strata):
        share = (s + 1) * num // strata - s * num // strata
        drawn += rng.choice(np.flatnonzero(stratum == s), share, replace=False).tolist()
    shuffled = [drawn[i] for i in rng.permutation(num)]
    return [Sampled(archs[i], params[i], int(stratum[i])) for i in shuffled]


def summarise(
    names: Sequence[str], records: Sequence[Mapping[str, Any]], seed: int
) -> list[dict[str, Any]]:
    """Correlations of measures with what training reached; plain data, None for what is not defined.

    Args:
        names: of the measures.
        records: of all architectures: ``measures``, ``trained``, ``stratum`` and ``seconds``.
        seed: decides resamples and permutations.

    Returns:
        For each measure its name and title, ``higher_is_better``, ``published_tau``, the median ``seconds``
        per network, the architectures ``left_out`` with their reason, :class:`.statistics.Correlation` with
        top-1 under ``top1``, and ``tau_loss``.
    """
    found = []
    for name in names:
        info = MEASURES[name]
        sign = 1 if info.higher_is_better else -1
        used, bad = [], []
        for record in records:
            score = record['measures'][name]
            if score['value'] is None:
                bad.append({'arch': record['arch'], 'reason': score['reason']})
            else:
                used.append((sign * score['value'], record['trained'], record['stratum']))
        top1 = correlate(
            [value for value, _, _ in used],
            [trained['top1'] for _, trained, _ in used],
            [stratum for _, _, stratum in used],
            seed=seed,
        )
        losses = [(v, -t['val_loss']) for v, t, _ in used if t['val_loss'] is not None]
        tau_loss = stats.kendalltau(*zip(*losses, strict=True)).statistic if losses else math.nan
        found.append(
            {
                'name': name,
                'title': info.title,
                'higher_is_better': info.higher_is_better,
                'published_tau': PUBLISHED_TAU.get(name),
                'seconds': float(np.median([r['seconds']['measures'][name] for r in records])),
                'left_out': bad,
                'top1': {key: _finite(value) for key, value in asdict(top1).items()},
                'tau_loss': _finite(float(tau_loss)),
            }
        )
    return found


def report_text(study: Record, measures: list[Record], records: list[Record], command: str) -> str:
    """The study as a Markdown page: what was done, the table, how to read it."""
    settings = study['settings']
    top1 = [record['trained']['top1'] for record in records]
    left_out = [
        f'- {measure["title"]}: {len(bad)} architecture(s) without a score are left out '
        f'({bad[0]["arch"]}: {bad[0]["reason"]}).\n'
        for measure in measures
        if (bad := measure['left_out'])
    ]
    return REPORT.format(
        **{**settings, 'num': len(records)},
        command=command,
        min=min(top1),
        max=max(top1),
        median=np.median(top1),
        distinct=len(set(top1)),
        seconds=np.median([record['seconds']['training'] for record in records]),
        torch=study['versions']['torch'],
        table=markdown_table(*table(measures), text_columns=2),
        confidence=CONFIDENCE,
        resamples=RESAMPLES,
        left_out=''.join(left_out),
    )


def table(measures: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of correlations."""
    header = ['measure', 'better', 'tau', '95 % interval', 'p', 'within strata (p)', 'tau (loss)']
    rows = []
    for measure in measures:
        top1 = measure['top1']
        interval = '-' if top1['low'] is None else f'{top1["low"]:+.2f} to {top1["high"]:+.2f}'
        rows.append(
            [
                measure['title'],
                'higher' if measure['higher_is_better'] else 'lower',
                shown(top1['tau'], '+.2f'),
                interval,
                _p(top1['p']),
                f'{shown(top1["tau_within"], "+.2f")} ({_p(top1["p_within"])})',
                shown(measure['tau_loss'], '+.2f'),
                str(top1['n']),
                f'{measure["seconds"]:.3f}',
                shown(measure['published_tau'], '+.2f'),
            ]
        )
    return [*header, 'n', 's a network', 'published'], rows


def _measure(
    settings: CorrelateSettings,
    names: Sequence[str],
    arch: Architecture,
    index: int,
    images: torch.Tensor,
    device: torch.device,
) -> tuple[Record, dict[str, float]]:
    """Scores of one architecture by every measure, and each measure's seconds per network.

    As in the search, images and curves are those of the study and the weights are the architecture's.
    """
    found = measure_architecture(
        arch,
        images,
        names=names,
        img_size=settings.pixels,
        repeat=settings.repeat,
        seed=(settings.seed, index),
        device=device,
    )
    scores = {}
    for name, score in found.items():
        value = usable(score)
        scores[name] = {
            'value': value,
            'std': None if value is None else _finite(score.std),
            'reason': '' if value is not None else score.reason or 'not finite',
        }
    return scores, {name: round(score.seconds, 4) for name, score in found.items()}


def _describe(record: Record) -> str:
    return (
        f'{record["arch"]}  {format_count(record["params"])}  '
        f'top-1 {record["trained"]["top1"]:.2f} %  {record["seconds"]["training"]:.0f} s'
    )


def _report(
    settings: CorrelateSettings, folder: StudyFolder, records: list[Record], names: Sequence[str]
) -> dict[str, Any]:
    measures = summarise(names, records, settings.seed)
    plot_correlations(measures, records, folder.path / 'scatter.png')
    text = report_text(folder.study, measures, records, study_command(settings))
    summary = {'study': folder.study, 'measures': measures, 'records': records}
    written = folder.write_report(text, summary)
    header, rows = table(measures)
    printed = Table(*header, box=None, pad_edge=False)
    for row in rows:
        printed.add_row(*row)
    # A narrower table would lose cells.
    Console(highlight=False, width=max(Console().width, TABLE_WIDTH)).print(printed)
    print()
    print_summary(
        {
            'tau': 'positive means that the measure predicts (negated where lower is better)',
            'within strata': 'pairs of similar size only',
            'tau (loss)': 'against the cross-entropy on the validation set',
            'written': written,
        }
    )
    return summary


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _p(value: float | None) -> str:
    return '-' if value is None else '<0.001' if value < 0.001 else f'{value:.3f}'
