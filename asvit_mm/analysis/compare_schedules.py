"""Schedules of progressive tokenization compared: one architecture trained with each, from several seeds.

Accuracy, multiply-adds and time of training (As-ViT, arXiv 2202.11921, section 3.5).
"""

from collections.abc import Sequence

from mmengine.config import Config

from ..arch import as_architecture
from ..config_writer.recipes import recipe
from ..engine.config import TOKEN_HOOK, check_data, merge_options
from ..engine.options import parse_options
from ..errors import InputError
from ..runs.training import train_and_test, training_config
from ..token_schedule import all_strides, mean_cost, phases_for, read_schedule
from .plots import plot_schedules
from .schedule_cost import build_tokenized
from .settings import SchedulesSettings
from .study import Record, StudyFolder, take_share
from .tables import markdown_table, mean_and_std

FULL = 'full'

PAGE = """# Schedules of progressive tokenization compared

`{arch}` trained on {data} at {img_size} pixels for {epochs} epochs with each schedule, seeds {seed} to \
{last}, {device}, {threads} thread(s) a process.

    {command}

{table}

- Mean ± standard deviation over the seeds.
- top-1: of the validation set, with the last weights, at the full token grid if no other is named. Against \
full: points, to the training of the same seed without a schedule.
- Multiply-adds are counted, of the backbone; seconds are of the training iterations, images loaded within \
them, while another process may have been at work.

![Accuracy against the epoch](curves.png)
"""


def run_schedules(settings: SchedulesSettings) -> Record | None:
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
    options = parse_options(settings.cfg_options)

    def config(schedule: str, seed: int) -> Config:
        workers = settings.workers
        cfg = training_config(arch, data, epochs=epochs, seed=seed, workers=workers, validate=True)
        merge_options(cfg, options, 'what is trained')
        if schedule != FULL:
            cfg.custom_hooks = [*cfg.custom_hooks, dict(type=TOKEN_HOOK, phases=schedule)]
        return cfg

    plain = config(FULL, settings.seed)
    check_data(plain, ['train_dataloader', 'test_dataloader'])
    schedules = (FULL, *dict.fromkeys(settings.schedules))
    saved = {name: saved_percent(plain, name, epochs) for name in schedules}
    seeds = range(settings.seed, settings.seed + settings.seeds)
    trainings = {f'{name}-seed{seed}': (name, seed) for seed in seeds for name in schedules}
    folder = StudyFolder(settings, 'compare_schedules', share, arch=str(arch), epochs=epochs)

    def train(name: str, item: tuple[str, int]) -> Record:
        schedule, seed = item
        cfg = config(schedule, seed)
        trained = train_and_test(cfg, folder.path, name, device, elastic_strides(cfg, schedule))
        one = {'schedule': schedule, 'seed': seed, 'saved': saved[schedule]}
        kept = ('top1', 'curve', 'seconds', 'at_strides')
        return one | {name: getattr(trained, name) for name in kept}

    with folder.resumable():
        records = folder.complete(
            trainings, train, lambda one: f'top-1 {one["top1"]:.2f} %  {one["seconds"]:.0f} s'
        )
    return report(folder, records) if share.rank == 0 else None


def elastic_strides(cfg: Config, schedule: str) -> list[int]:
    """The coarser strides that the last phase of a schedule trains, if it trains several."""
    if schedule == FULL:
        return []
    base = build_tokenized(cfg, 'what is trained').base_token_stride
    return [stride for stride in read_schedule(schedule, base)[-1].strides if stride != base]


def saved_percent(cfg: Config, schedule: str, epochs: int) -> float:
    """Multiply-adds of training, backbone, that a schedule saves, in per cent.

    Raises:
        InputError: the backbone cannot be built, or the schedule does not fit the run or the backbone.
    """
    backbone = build_tokenized(cfg, 'what is trained')
    if schedule == FULL:
        return 0.0
    try:
        phases = phases_for(backbone, schedule, epochs)
        if len(phases) < len(read_schedule(schedule)):
            raise InputError(f'a phase lasts less than half an epoch in a run of {epochs}')
    except InputError as error:
        raise InputError(f'schedule {schedule}: {error}: leave it out') from None
    macs = {stride: float(backbone.count_macs(stride)) for stride in all_strides(phases)}
    full = float(backbone.count_macs(backbone.base_token_stride))
    return 100 - 100 * mean_cost(phases, macs, epochs) / full


def summarise(records: Sequence[Record]) -> list[Record]:
    """What every schedule saves, and what it does to the accuracy; plain data.

    Args:
        records: of all trainings: ``schedule`` ('full' is without), ``seed``, ``saved`` (per cent of the
            multiply-adds of training), ``top1``, ``seconds`` and optionally ``at_strides``.

    Returns:
        For each its ``schedule``, ``saved``, and of all seeds ``top1``, ``difference`` to the full training
        of the same seed (points), ``seconds``, ``time_saved`` (per cent of that full training) and
        ``at_strides``, top1 at the coarser strides of elastic tokens.
    """
    full = {record['seed']: record for record in records if record['schedule'] == FULL}
    rows = []
    for name in dict.fromkeys(record['schedule'] for record in records):
        mine = [record for record in records if record['schedule'] == name]
        pairs = [(record, full[record['seed']]) for record in mine]
        rows.append(
            {
                'schedule': name,
                'saved': mine[0]['saved'],
                'top1': [one['top1'] for one in mine],
                'difference': [one['top1'] - f['top1'] for one, f in pairs],
                'seconds': [one['seconds'] for one in mine],
                'time_saved': [100 - 100 * one['seconds'] / f['seconds'] for one, f in pairs],
                'at_strides': {
                    stride: [one['at_strides'][stride] for one in mine]
                    for stride in mine[0].get('at_strides', ())
                },
            }
        )
    return rows


def report(folder: StudyFolder, records: Sequence[Record]) -> Record:
    """Compare, draw and write the report; its content."""
    schedules = summarise(records)
    plot_schedules(schedules, records, folder.path / 'curves.png')
    settings, table = folder.study['settings'], []
    coarse = dict.fromkeys(stride for row in schedules for stride in row['at_strides'])
    for row in schedules:
        full = row['schedule'] == FULL
        table.append(
            {
                'schedule': row['schedule'],
                'top-1': f'{mean_and_std(row["top1"], ".2f")} %',
                'against full': '' if full else mean_and_std(row['difference'], '+.2f'),
                'multiply-adds saved': f'{row["saved"]:.1f} %',
                'seconds': mean_and_std(row['seconds'], '.0f'),
                'time saved': '' if full else f'{mean_and_std(row["time_saved"])} %',
                **{
                    f'top-1 at stride {stride}': (
                        f'{mean_and_std(row["at_strides"][stride], ".2f")} %'
                        if stride in row['at_strides']
                        else ''
                    )
                    for stride in coarse
                },
            }
        )
    words = {
        'table': markdown_table(table),
        'last': settings['seed'] + settings['seeds'] - 1,
        'arch': folder.study['arch'],
        'epochs': folder.study['epochs'],
    }
    return folder.write_report(PAGE, words, schedules=schedules, records=records)
