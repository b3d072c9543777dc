"""Schedules of progressive tokenization compared: one architecture trained with each, from several seeds."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config

from ..arch import as_architecture
from ..config_writer.configs import TOKEN_HOOK
from ..config_writer.recipes import recipe
from ..data.source import describe_data
from ..engine.config import check_data, merge_options
from ..engine.distributed import wait_for_all
from ..engine.runner import parse_options
from ..errors import InputError
from ..runs.progress import print_summary
from ..runs.settings import check_at_least, find_device
from ..runs.setup import resumable
from ..token_schedule import PUBLISHED, mean_cost, phases_of_run, read_schedule
from ..utils.files import atomic_write_json, atomic_write_text, relative
from . import StudyFolder, train_and_test, training_config, with_validation
from .schedule_cost import build_tokenized
from .schedules import FULL, schedules_report, summarise_schedules
from .schedules_plots import plot_schedules
from .settings import StudySettings, complete_records, open_study, study_command, take_share

CURVES = 'curves.png'
# What options may change: the rest is the study's own.
OPTIONS = ('model', 'data_preprocessor', 'train_dataloader', 'optim_wrapper', 'param_scheduler')


@dataclass(frozen=True, kw_only=True)
class SchedulesSettings(StudySettings):
    """Settings of the comparison.

    Args:
        arch: the architecture that is trained: a preset, or a string.
        schedules: names of published ones, or 'stride@end,...' with or without '/dilation' behind a stride;
            training without one comes beside them.
        seeds: trainings with each schedule, from ``seed`` on.
        epochs: of each; None: those of the data's recipe.
        workers: processes that load the images of one training.
        cfg_options: KEY=VALUE, merged into the config of every training; fields of ``OPTIONS``.

    Raises:
        InputError: a value out of range, or no such schedule.
    """

    data: str = 'digits'
    arch: str = 'seed'
    schedules: tuple[str, ...] = tuple(PUBLISHED)
    seeds: int = 3
    epochs: int | None = None
    workers: int = 0
    cfg_options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least('--seeds', self.seeds, 1)
        check_at_least('--workers', self.workers, 0)
        if self.epochs is not None:
            check_at_least('--epochs', self.epochs, 1)
        if not self.schedules:
            raise InputError('no schedule to compare: name at least one')
        for name in self.schedules:
            read_schedule(str(name))
        for key in parse_options(self.cfg_options):
            if key.split('.')[0] not in OPTIONS:
                raise InputError(
                    f'--cfg-options {key}: a study decides all but {", ".join(OPTIONS)}; see --epochs, '
                    '--seed and --schedules'
                )

    def decisive(self, epochs: int) -> dict[str, Any]:
        """What decides the records, as plain data; a resumed study must have the same."""
        return {
            'arch': str(as_architecture(self.arch)),
            'schedules': list(self.schedules),
            'seeds': self.seeds,
            'epochs': epochs,
            'data': self.data,
            'img_size': self.pixels,
            'seed': self.seed,
            'threads': self.threads,
            'device': find_device(self.device).type,
            'workers': self.workers,
            **({'cfg_options': list(self.cfg_options)} if self.cfg_options else {}),
        }


def run_schedules(settings: SchedulesSettings) -> dict[str, Any] | None:
    """Run the comparison, or go on with it, and write records, report and table.

    Trainings are independent: with a launcher each process takes its share of them, and the first writes
    the report when all are done.

    Returns:
        the content of report.json; None in the other processes.

    Raises:
        InputError: a user's mistake, or a schedule that the run or the architecture is too small for;
            nothing has been trained.
        KeyboardInterrupt: Ctrl-C while training; says how far the study is and how to go on.
    """
    share, device = take_share(settings)
    data = describe_data(settings.data, settings.pixels)
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
    saved = {name: saved_percent(plain, name, epochs) for name in names}
    study = {
        'settings': settings.decisive(epochs),
        'versions': settings.versions(),
        'architectures': [
            {'arch': str(arch), 'schedule': name, 'seed': seed}
            for seed in range(settings.seed, settings.seed + settings.seeds)
            for name in names
        ],
    }
    folder = StudyFolder(settings.work_dir, study)
    open_study(folder, settings, share)

    def complete(index: int) -> dict[str, Any]:
        one = folder.study['architectures'][index]
        trained = train_and_test(
            config(one['schedule'], one['seed']),
            folder.training(index),
            folder.log(index),
            device,
            f'schedule-{index:03d}',
        )
        return {
            'index': index,
            **one,
            'saved': saved[one['schedule']],
            'trained': trained.figures,
            'curve': trained.curve,
            'seconds': round(trained.seconds, 3),
        }

    decisive = settings.decisive(epochs)
    command = study_command(
        'compare_schedules.py', settings.work_dir, decisive.pop('arch'), **decisive
    )
    with resumable(
        lambda: f'{len(folder.done())} of {len(folder.study["architectures"])} trainings',
        f'{command} --resume',
    ):
        complete_records(folder, share, complete, _describe)
        wait_for_all(share, 'records')
    return _report(folder, command) if share.rank == 0 else None


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


def _describe(record: Mapping[str, Any]) -> str:
    return (
        f'{record["schedule"]}, seed {record["seed"]}: top-1 {record["trained"]["top1"]:.2f} %  '
        f'{record["seconds"]:.0f} s'
    )


def _report(folder: StudyFolder, command: str) -> dict[str, Any]:
    summary = summarise_schedules(folder.study, folder.read_all())
    text = atomic_write_text(folder.path / 'report.md', schedules_report(summary, command, CURVES))
    picture = plot_schedules(summary, folder.path / CURVES)
    # Last: that it is there says that the study is complete.
    result = atomic_write_json(folder.path / 'report.json', summary)
    rows = {
        row['schedule']: f'top-1 {row["top1"]["mean"]:.2f} % ({row["difference"]["mean"]:+.2f}), '
        f'{row["saved"]:.1f} % of the multiply-adds and {row["time_saved"]["mean"]:.1f} % of the time saved'
        for row in summary['schedules']
    }
    print_summary({**rows, 'written': ', '.join(map(relative, (result, text, picture)))})
    return summary
