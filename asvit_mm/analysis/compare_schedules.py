"""Schedules of progressive tokenization compared: one architecture trained with each, from several seeds.

Accuracy, multiply-adds and time of training; the published figures are those of As-ViT (arXiv 2202.11921),
section 3.5.
"""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.config import Config

from ..arch import as_architecture
from ..config_writer.configs import TOKEN_HOOK
from ..config_writer.recipes import recipe
from ..engine.config import check_data, merge_options
from ..engine.runner import parse_options
from ..errors import InputError
from ..runs.progress import print_summary
from ..token_schedule import PUBLISHED_SAVINGS, mean_cost, phases_of_run, read_schedule
from .plots import plot_schedules
from .records import (
    Record,
    StudyFolder,
    markdown_table,
    mean_and_std,
    study_command,
    take_share,
)
from .schedule_cost import build_tokenized
from .settings import SchedulesSettings
from .training import train_and_test, training_config, with_validation

FULL = 'full'

REPORT = """# Schedules of progressive tokenization compared

`{arch}` trained on {data} at {img_size} pixels for {epochs} epochs with each schedule, seeds {seed} to \
{last}, {device}, {threads} thread(s) a process.

    {command}

{table}

- Mean ± standard deviation over the seeds.
- top-1: of the validation set at the full token grid, with the last weights. Against full: points, to the \
training of the same seed without a schedule.
- Multiply-adds are counted, of the backbone; seconds are of the training iterations, images loaded within \
them, while another process may have been at work.

![Accuracy against the epoch](curves.png)
"""


def run_schedules(settings: SchedulesSettings) -> dict[str, Any] | None:
    """Run the comparison, or continue it, and write records, report, table and picture.

    With a launcher each process takes its share of the trainings, and the main rank writes the report.

    Returns:
        the content of report.json; None in the other processes.

    Raises:
        InputError: a user's mistake, or a schedule that the run or the architecture is too small for;
            nothing has been trained.
        KeyboardInterrupt: Ctrl-C while training; says how far the study is and how to go on.
    """
    share, device = take_share(settings)
    data = settings.source
    arch = as_architecture(settings.arch)
    epochs = recipe(data).run_length if settings.epochs is None else settings.epochs
    names = (FULL, *dict.fromkeys(settings.schedules))
    options = parse_options(settings.cfg_options)

    def config(schedule: str, seed: int) -> Config:
        plain = training_config(arch, data, epochs=epochs, seed=seed, workers=settings.workers)
        cfg = with_validation(plain)
        merge_options(cfg, options, 'what is trained')
        return with_schedule(cfg, schedule)

    plain = config(FULL, settings.seed)
    check_data(plain, ['train_dataloader', 'test_dataloader'])
    trainings = [
        {
            'arch': str(arch),
            'schedule': name,
            'seed': seed,
            'saved': saved_percent(plain, name, epochs),
        }
        for seed in range(settings.seed, settings.seed + settings.seeds)
        for name in names
    ]
    folder = StudyFolder(settings, share, trainings, epochs=epochs)
    folder.open()

    def train(index: int) -> Record:
        one = folder.architectures[index]
        cfg = config(one['schedule'], one['seed'])
        trained = train_and_test(cfg, folder.path, index, device)
        return {
            'trained': trained.figures,
            'curve': trained.curve,
            'seconds': round(trained.seconds, 3),
        }

    with folder.resumable():
        records = folder.complete(train, _describe)
    return _report(settings, folder, records) if share.rank == 0 else None


def with_schedule(cfg: Config, schedule: str) -> Config:
    """``cfg`` with the hook that trains by the schedule; as it is for training without one."""
    cfg = copy.deepcopy(cfg)
    if schedule != FULL:
        cfg.custom_hooks = [*cfg.custom_hooks, dict(type=TOKEN_HOOK, phases=schedule)]
    return cfg


def saved_percent(cfg: Config, schedule: str, epochs: int) -> float:
    """Multiply-adds of training, backbone, that a schedule saves, in per cent.

    Raises:
        InputError: the backbone cannot be built, or the schedule does not fit the run or the backbone.
    """
    backbone = build_tokenized(cfg, 'what is trained')
    if schedule == FULL:
        return 0.0
    phases = phases_of_run(read_schedule(schedule, backbone.base_token_stride), epochs)
    for phase in phases:
        try:
            backbone.check_token_stride(phase.stride, phase.dilation)
        except InputError as error:
            raise InputError(f'schedule {schedule}: {error}: leave it out') from None
    base = backbone.base_token_stride
    macs = {
        stride: float(backbone.count_macs(stride)) for stride in (base, *(p.stride for p in phases))
    }
    return 100 - 100 * mean_cost(phases, macs, epochs) / macs[base]


def summarise(records: Sequence[Record]) -> list[Record]:
    """What every schedule saves, and what it does to the accuracy; plain data.

    Args:
        records: of all trainings: ``schedule`` ('full' is without), ``seed``, ``saved`` (per cent of the
            multiply-adds of training), ``trained`` (top1) and ``seconds``.

    Returns:
        For each its ``schedule``, ``saved``, and [mean, standard deviation] over the seeds (n - 1 in the
        denominator; None for one seed) of ``top1``, of ``difference`` to the full training of the same seed
        (points), of ``seconds`` and of ``time_saved`` (per cent of the full training of the same seed).
    """
    full = {record['seed']: record for record in records if record['schedule'] == FULL}
    rows = []
    for name in dict.fromkeys(record['schedule'] for record in records):
        mine = [record for record in records if record['schedule'] == name]
        pairs = [(record, full[record['seed']]) for record in mine]
        figures = {
            'top1': [one['trained']['top1'] for one in mine],
            'difference': [one['trained']['top1'] - f['trained']['top1'] for one, f in pairs],
            'seconds': [one['seconds'] for one in mine],
            'time_saved': [100 - 100 * one['seconds'] / f['seconds'] for one, f in pairs],
        }
        over_seeds = {
            key: [float(np.mean(v)), float(np.std(v, ddof=1)) if len(v) > 1 else None]
            for key, v in figures.items()
        }
        rows.append({'schedule': name, 'saved': mine[0]['saved'], **over_seeds})
    return rows


def report_text(settings: SchedulesSettings, epochs: int, schedules: Sequence[Record]) -> str:
    """The comparison as a Markdown page: what was done, the table, how to read it, the picture."""
    header = ['schedule', 'top-1', 'against full', 'multiply-adds saved']
    header += ['published (ImageNet, 224)', 'seconds', 'time saved']
    rows = []
    for row in schedules:
        full, published = row['schedule'] == FULL, PUBLISHED_SAVINGS.get(row['schedule'])
        rows.append(
            [
                row['schedule'],
                f'{_both(row["top1"], ".2f")} %',
                '' if full else _both(row['difference'], '+.2f'),
                f'{row["saved"]:.1f} %',
                '' if published is None else f'{published:g} %',
                _both(row['seconds'], '.0f'),
                '' if full else f'{_both(row["time_saved"], ".1f")} %',
            ]
        )
    arch = str(as_architecture(settings.arch))
    return REPORT.format(
        **{**settings.fingerprint(), 'epochs': epochs, 'arch': arch},
        last=settings.seed + settings.seeds - 1,
        command=study_command(settings),
        table=markdown_table(header, rows),
    )


def _both(figure: tuple[float, float | None], spec: str) -> str:
    mean, std = figure
    return mean_and_std(mean, std, spec)


def _describe(record: Record) -> str:
    return (
        f'{record["schedule"]}, seed {record["seed"]}: top-1 {record["trained"]["top1"]:.2f} %  '
        f'{record["seconds"]:.0f} s'
    )


def _report(
    settings: SchedulesSettings, folder: StudyFolder, records: list[Record]
) -> dict[str, Any]:
    schedules = summarise(records)
    plot_schedules(schedules, records, folder.path / 'curves.png')
    text = report_text(settings, folder.study['epochs'], schedules)
    summary = {'study': folder.study, 'schedules': schedules, 'records': records}
    written = folder.write_report(text, summary)
    rows = {
        row['schedule']: f'top-1 {row["top1"][0]:.2f} % ({row["difference"][0]:+.2f}), '
        f'{row["saved"]:.1f} % of the multiply-adds and {row["time_saved"][0]:.1f} % of the time saved'
        for row in schedules
    }
    print_summary({**rows, 'written': written})
    return summary
