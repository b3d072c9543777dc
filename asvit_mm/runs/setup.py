"""What a search and a scaling run have in common: inputs, limits, their folder, resuming, other ranks."""

import os
import platform
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process

from ..arch import PRESETS, Architecture
from ..config_writer.naming import RunConfigs
from ..data.images import load_images
from ..data.source import DataSource, describe_data
from ..engine.distributed import start_processes
from ..nas import (
    Budget,
    Clock,
    ComplexityMeasure,
    Latency,
    Measurement,
    Request,
    help_measuring,
    with_helpers,
)
from ..ops import attention
from ..utils.command_line import as_arguments
from ..utils.files import relative
from ..version import __version__
from .folder import RunFolder
from .progress import printed_warnings
from .settings import MeasuringSettings, RunSettings, as_count, find_device

Known = Mapping[Request, Measurement]


def prepare(settings: MeasuringSettings) -> tuple[DataSource, ComplexityMeasure]:
    """The data that configs train on, and the measure on images of it.

    Raises:
        InputError: missing or too few images, or data that no config can be written for.
    """
    data = describe_data(settings.data, settings.pixels)
    if isinstance(settings, RunSettings):
        # Data for which no config can be written is refused before anything is measured.
        RunConfigs(data, progressive=settings.progressive).add(PRESETS['seed'])
    count = settings.repeat * settings.batch_size
    images = load_images(data.images, settings.pixels, count, settings.seed)
    with printed_warnings():
        measure = ComplexityMeasure(
            images.reshape(settings.repeat, settings.batch_size, *images.shape[1:]),
            img_size=settings.pixels,
            seed=settings.seed,
            device=find_device(settings.device),
        )
    return data, measure


def versions(device: torch.device) -> dict[str, str]:
    """Versions and device, as plain data; the last digits of a result may depend on them."""
    found = {
        'asvit_mm': __version__,
        'python': platform.python_version(),
        'torch': torch.__version__,
    }
    for name in ('numpy', 'onedl-mmengine', 'onedl-mmcv', 'onedl-mmpretrain'):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = 'not installed'
    found['device'] = (
        torch.cuda.get_device_name(device) if device.type == 'cuda' else platform.machine()
    )
    return found


def open_folder(settings: RunSettings, task: str, **fingerprint: Any) -> RunFolder:
    """The folder of the run, new or with the run that is resumed, which is said.

    Args:
        task: so that no search is resumed as a scaling run.
        fingerprint: settings that are compared and written in another form than they were given in.

    Raises:
        InputError: see :class:`RunFolder`.
    """
    device = find_device(settings.device)
    kernel = 'asvit_mm' if device.type == 'cpu' and attention.has_kernel() else 'torch'
    folder = RunFolder(
        settings.work_dir,
        {
            'task': task,
            'settings': {**settings.fingerprint(), **fingerprint},
            'versions': versions(device),
        },
        # Both give the same values to rounding, so a machine without a compiler may go on.
        facts={'attention_kernel': kernel},
        resume=settings.resume,
        overwrite=settings.overwrite,
    )
    if settings.resume and not folder.resumed:
        print(f'{relative(folder.path)} holds no run yet: this one starts from scratch')
    if (before := folder.run['attention_kernel']) != kernel:
        print(
            f'note: this run began with the attention kernel of {before} and goes on with that of '
            f'{kernel}: last digits may differ from those of an uninterrupted run'
        )
    return folder


def read_budget(
    settings: RunSettings, data: DataSource, max_params: str | int | None = None
) -> Budget:
    """The limits on parameters and multiply-adds, for the classifier that the configs train."""
    max_macs = as_count(settings.max_flops, 'multiply-adds')
    return Budget(data.num_classes, data.img_size, as_count(max_params), max_macs)


def read_latency(
    settings: RunSettings, data: DataSource, known: Known | None = None
) -> Latency | None:
    """The limit on the latency; None if there is none.

    Args:
        known: measurements of the run that is resumed.

    Raises:
        InputError: the limit is not a positive number.
    """
    if settings.max_latency is None:
        return None
    clock = Clock(data.num_classes, data.img_size, find_device(settings.device))
    latencies: dict[Architecture, float] = {}
    for (arch, _), measurement in (known or {}).items():
        if measurement.latency_ms is not None:
            latencies.setdefault(arch, measurement.latency_ms)
    return Latency(clock, settings.max_latency, latencies)


def check_latency(
    settings: RunSettings, data: DataSource, smallest: Iterable[Architecture], what: str
) -> None:
    """Time the smallest networks, called ``what``, and refuse a limit on the latency that all exceed.

    A run that is resumed has passed this; its latencies are those of its trace.

    Raises:
        InputError: all exceed it; names the fastest.
    """
    latency = read_latency(settings, data)
    resumed = settings.resume and (Path(settings.work_dir) / 'run.json').exists()
    if latency is not None and not resumed:
        latency.within_limit(smallest, what)


def known_measurements(records: Iterable[Mapping[str, Any]], *, remeasure: bool = False) -> Known:
    """The measurements in the records of a trace, for :class:`~asvit_mm.nas.Memo`.

    Nothing is checked: :meth:`RunFolder.append` compares every record with the one that the run makes of it.

    Args:
        remeasure: whether every record has a measurement of its own.

    Raises:
        InputError: a record names no architecture.
    """
    found: dict[Request, Measurement] = {}
    draws: Counter[Architecture] = Counter()
    for record in records:
        arch = Architecture.parse(str(record.get('arch')))
        request = (arch, draws[arch] if remeasure else 0)
        found.setdefault(request, Measurement.from_record(record))
        draws[arch] += 1
    return found


@contextmanager
def resumable(so_far: Callable[[], str], command: str) -> Iterator[None]:
    """Let Ctrl-C say how far the run is and how to go on.

    Args:
        so_far: called then; what is done, for 'interrupted after ...'.
        command: that resumes the run.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f'interrupted after {so_far()}; go on with: {command}') from None


def resume_command(settings: RunSettings, script: Path) -> str:
    """The command that resumes a run, with what differs from the defaults."""
    words = [relative(Path(sys.executable))]
    if settings.launcher == 'pytorch':
        processes = os.environ.get('LOCAL_WORLD_SIZE', '1')
        words += ['-m', 'torch.distributed.run', f'--nproc_per_node={processes}']
    arguments = as_arguments(settings, leave_out=('overwrite', 'resume'))
    return shlex.join([*words, relative(script), *arguments, '--resume'])


def run_on_main_rank(settings: RunSettings, job: Callable[[], None]) -> None:
    """Run the job on the main rank of the launcher, and let the other ranks help it to measure.

    Raises:
        InputError: the job's, on all ranks; or see :func:`~asvit_mm.engine.distributed.start_processes`.
    """
    start_processes(settings.launcher, find_device(settings.device))
    if is_main_process():
        with with_helpers():
            job()
    else:
        help_measuring()
