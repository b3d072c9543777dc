"""A whole study of network complexity: sample, measure, train, correlate (As-ViT, section 3.2)."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console

from ..arch import PRESETS, Architecture
from ..cost import count_macs, count_params
from ..data.images import load_images
from ..data.source import DataSource, describe_data
from ..engine.distributed import wait_for_all
from ..errors import InputError
from ..measures import MEASURES, Score, measure
from ..nas.evaluator import usable
from ..runs.progress import print_summary
from ..runs.settings import check_at_least
from ..utils.files import atomic_write_json, atomic_write_text, relative
from ..utils.units import format_count
from . import (
    TABLE_WIDTH,
    Sampled,
    StudyFolder,
    markdown_report,
    sample_architectures,
    screen_table,
    summarise,
    train_and_test,
    training_config,
)
from .settings import (
    MeasuringStudySettings,
    complete_records,
    open_study,
    study_command,
    take_share,
)
from .study_plots import plot_study

ALL = 'all'


@dataclass(frozen=True, kw_only=True)
class CorrelateSettings(MeasuringStudySettings):
    """Settings of a study.

    Args:
        num: architectures.
        strata: parts of equal number, by parameters, that they are drawn from.
        epochs: the training budget of each.
        measures: names of the registry, or 'all'.
        workers: processes that load the images of one training.

    Raises:
        InputError: a value out of range, or no such measure.
    """

    data: str = 'digits'
    num: int = 40
    strata: int = 4
    epochs: int = 8
    measures: tuple[str, ...] = (ALL,)
    workers: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least('--num', self.num, 3)
        check_at_least('--epochs', self.epochs, 1)
        check_at_least('--workers', self.workers, 0)
        unknown = [name for name in self.measures if name not in (ALL, *MEASURES)]
        if unknown or not self.measures:
            raise InputError(
                f'--measures {unknown[0] if unknown else ""!r} is not known: give all or some of '
                f'{", ".join(MEASURES)}'
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The measures, each once, in the registry's order."""
        return tuple(name for name in MEASURES if ALL in self.measures or name in self.measures)

    def decisive(self) -> dict[str, Any]:
        """What decides the records, as plain data; a resumed study must have the same."""
        return {
            'num': self.num,
            'strata': self.strata,
            'epochs': self.epochs,
            **self.measuring(),
            'workers': self.workers,
            'measures': list(self.names),
        }

    def command(self) -> str:
        """The command that runs this study in one process."""
        flags = self.decisive()
        if self.names == tuple(MEASURES):
            del flags['measures']
        return study_command('correlate.py', self.work_dir, **flags)


def run_study(settings: CorrelateSettings) -> dict[str, Any] | None:
    """Run a study, or go on with one, and write records, report, table and pictures.

    Architectures are independent: with a launcher each process takes its share of them, and the first
    writes the report when all are done.

    Returns:
        the content of report.json; None in the other processes.

    Raises:
        InputError: a user's mistake; nothing has been trained.
    """
    share, device = take_share(settings)
    data = describe_data(settings.data, settings.pixels)

    def size(arch: Architecture) -> int:
        return count_params(arch, data.num_classes, img_size=data.img_size)

    sampled = sample_architectures(settings.num, size, strata=settings.strata, seed=settings.seed)
    count = settings.repeat * settings.batch_size
    images = load_images(data, settings.pixels, count, settings.seed)
    images = images.reshape(settings.repeat, settings.batch_size, *images.shape[1:])
    training_config(PRESETS['seed'], data, epochs=settings.epochs)  # fails now or never
    folder = StudyFolder(settings.work_dir, _study(settings, sampled, data))
    open_study(folder, settings, share)

    def complete(index: int) -> dict[str, Any]:
        scores, measuring = measure_one(settings, sampled[index].arch, index, images, device)
        begin = time.perf_counter()
        cfg = training_config(
            sampled[index].arch,
            data,
            epochs=settings.epochs,
            seed=settings.seed,
            workers=settings.workers,
        )
        trained = train_and_test(
            cfg, folder.training(index), folder.log(index), device, f'study-{index:03d}'
        )
        training = round(time.perf_counter() - begin, 3)
        return {
            'index': index,
            **folder.study['architectures'][index],
            'measures': scores,
            'trained': trained.figures,
            'seconds': {'measures': measuring, 'training': training},
        }

    complete_records(folder, share, complete, _describe)
    wait_for_all(share, 'records')
    return _report(settings, folder) if share.rank == 0 else None


def measure_one(
    settings: CorrelateSettings,
    arch: Architecture,
    index: int,
    images: torch.Tensor,
    device: torch.device,
) -> tuple[dict[str, Any], dict[str, float]]:
    """Scores of one architecture by every measure, and each measure's seconds a network.

    As in the search, images and curves are those of the study and the weights are the architecture's.
    """
    scores = measure(
        arch,
        images,
        names=settings.names,
        img_size=settings.pixels,
        repeat=settings.repeat,
        seed=(settings.seed, index),
        device=device,
    )
    seconds = {name: round(score.seconds, 4) for name, score in scores.items()}
    return {name: _plain(score) for name, score in scores.items()}, seconds


def _plain(score: Score) -> dict[str, Any]:
    value = usable(score)
    return {
        'value': value,
        'std': score.std if value is not None and math.isfinite(score.std) else None,
        'reason': '' if value is not None else score.reason or 'not finite',
    }


def _study(settings: CorrelateSettings, sampled: list[Sampled], data: DataSource) -> dict[str, Any]:
    return {
        'settings': settings.decisive(),
        'versions': settings.versions(),
        'architectures': [
            {
                'arch': str(s.arch),
                'params': s.params,
                'macs': count_macs(s.arch, data.img_size, data.num_classes),
                'stratum': s.stratum,
            }
            for s in sampled
        ],
    }


def _describe(record: Mapping[str, Any]) -> str:
    return (
        f'{record["arch"]}  {format_count(record["params"])}  '
        f'top-1 {record["trained"]["top1"]:.2f} %  {record["seconds"]["training"]:.0f} s'
    )


def _report(settings: CorrelateSettings, folder: StudyFolder) -> dict[str, Any]:
    summary = summarise(folder.study, folder.read_all())
    picture = plot_study(summary, folder.path / 'scatter.png')
    text = atomic_write_text(
        folder.path / 'report.md', markdown_report(summary, settings.command(), picture.name)
    )
    # Last: that it is there says that the study is complete.
    result = atomic_write_json(folder.path / 'report.json', summary)
    spread = summary['accuracy']
    # Rich would cut the cells of a narrower screen; the screen only breaks the lines.
    width = max(Console().width, TABLE_WIDTH)
    Console(highlight=False, width=width).print(screen_table(summary))
    print()
    print_summary(
        {
            'top-1': f'{spread["min"]:.2f} to {spread["max"]:.2f} %, median {spread["median"]:.2f} %',
            'tau': 'positive means that the measure predicts (negated where lower is better)',
            'within strata': 'pairs of similar size only',
            'tau (loss)': 'against the cross-entropy on the validation set',
            'written': ', '.join(map(relative, (result, text, picture))),
        }
    )
    return summary
