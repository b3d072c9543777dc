"""What a search and a scaling run have in common: inputs, limits, their folder, resuming, other ranks."""

import os
import platform
import shlex
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from mmengine.dist import is_main_process

from ..arch import PRESETS, Architecture
from ..config_writer.configs import train_command
from ..config_writer.naming import RunConfigs
from ..data.images import load_images
from ..engine.distributed import start_processes
from ..export.formats import deploy, require_packages
from ..nas import (
    Budget,
    Clock,
    ComplexityMeasure,
    Latency,
    Measure,
    Measurement,
    Memo,
    Request,
    SharedMeasure,
    choose_finalists,
    help_main_rank,
    pareto_front,
    percentile_scores,
    with_helpers,
)
from ..ops import attention
from ..utils.command_line import as_arguments
from ..utils.console import print_summary
from ..utils.files import relative
from ..version import __version__
from .folder import RunFolder
from .progress import printed_warnings
from .race import Race
from .results import Found, cost_rows, found_rows, network_record
from .settings import MeasuringSettings, RunSettings, as_count, find_device

NOISE_COST = (
    'kappa on noise does not rank networks as kappa on natural images does (its Kendall tau with ImageNet '
    "accuracy on AutoFormer-tiny's networks: -0.20 and +0.34): leave --data noise out"
)

# The format of asvit_mm.export that a runtime of --latency-runtime runs.
RUNTIMES = {'torch': None, 'onnxruntime': 'onnx', 'openvino': 'openvino'}
Known = Mapping[Request, Measurement]
Measured = dict[Architecture, Measurement]
S = TypeVar('S', bound=RunSettings)


class Run(ABC, Generic[S]):
    """A search or a scaling run in its folder; a subclass takes the steps.

    Args:
        settings: of the run.
        tools: folder of the tools, for the commands that are printed.

    Attributes:
        TASK: of run.json, and the name of the tool.
        configs: of the networks that are found.
        folder, memo, latency: set when the run begins or is resumed.

    Raises:
        InputError: missing or too few images, or data that no config can be written for.
    """

    TASK: ClassVar[str]

    folder: RunFolder
    memo: Memo
    latency: Latency | None

    # Of the architecture, within these limits.
    budget: Budget

    def __init__(self, settings: S, tools: Path) -> None:
        self.settings, self.tools, self.data = settings, tools, settings.source
        # Data for which no config can be written is refused before anything is measured.
        RunConfigs(self.data, progressive=settings.progressive).add(PRESETS['seed'])
        folder = relative(Path(settings.work_dir) / 'configs')
        self.configs = RunConfigs(self.data, progressive=settings.progressive, folder=folder)
        self.measure: Measure = SharedMeasure(make_measure(settings))
        self.race = None if settings.finalists is None else Race(settings, self.data)

    @abstractmethod
    def smallest(self) -> tuple[Sequence[Architecture], str]:
        """The smallest networks, one of which must meet the latency limit, and their name in a message."""

    @abstractmethod
    def progress(self, records: Sequence[Mapping[str, Any]]) -> str:
        """How far a run with these records is, in words."""

    @abstractmethod
    def take_steps(self) -> dict[str, Any]:
        """Take all steps, those in the trace without measuring, write the report, and return the result."""

    @abstractmethod
    def partial_result(self) -> dict[str, Any] | None:
        """The result of the steps before an interruption; None if they found nothing."""

    @abstractmethod
    def print_result(self) -> None:
        """Print what result.json says; see :meth:`print_rows`."""

    def network(self, arch: Architecture, measurement: Measurement) -> dict[str, Any]:
        """A network for the result: what it is, what was measured of it, what it costs, its configs."""
        return {'arch': str(arch), **measurement.to_record(), **network_record(arch, self.configs)}

    def run_race(
        self, found: Architecture, ranked: Iterable[Architecture], measured: Measured
    ) -> tuple[Architecture, dict[str, Any] | None]:
        """The winner of the race of ``found`` and the best of ``ranked``, and the race for the result.

        Args:
            found: what the run found without training; the winner if no race was asked for.
            ranked: further networks, the best first.
            measured: the measurements; those of finalists that have none yet are added.
        """
        if self.race is None:
            return found, None
        finalists = self._finalists(found, list(ranked), measured)
        race = self.race.run(finalists, self.budget.macs, self.folder)
        for one in race['finalists']:
            arch = Architecture.parse(one['arch'])
            one |= self.network(arch, measured[arch])
        return Architecture.parse(race['finalists'][0]['arch']), race

    def _finalists(
        self, found: Architecture, ranked: list[Architecture], measured: Measured
    ) -> list[Architecture]:
        """The finalists, measured; those that are too slow are replaced."""
        wanted = self.settings.finalists or 0
        while True:
            finalists = choose_finalists([found], ranked, wanted)
            new = [arch for arch in finalists if arch not in measured]
            if not new:
                break
            for arch, (measurement, _) in zip(new, self.memo(new), strict=True):
                self.folder.append({'finalist': True, 'arch': str(arch), **measurement.to_record()})
                measured[arch] = measurement
            ranked = [a for a in ranked if a not in measured or measured[a].refused is None]
        if len(finalists) < wanted and not self.folder.replaying:
            print(f'note: {len(finalists)} of {wanted} finalists: no others are within the limits')
        return finalists

    def front(
        self, measured: Measured, race: Mapping[str, Any] | None
    ) -> tuple[list[dict[str, Any]], list[tuple[int, float]]]:
        """The networks that no other is as good and as cheap as, from the cheapest on, for the result.

        Without a race a network's ``score`` is the mean of its percentiles by L^E and kappa among all that
        were measured (:func:`~asvit_mm.nas.percentile_scores`). With a race only its finalists are compared,
        by their ``place`` from 1; ``score`` is their accuracy in the first round, in per cent. Cheap means
        few multiply-adds, and a low latency where that was measured.

        Args:
            measured: all networks that were measured.

        Returns:
            the front, and what it is drawn among: multiply-adds of every network that is compared, and its
            score or its accuracy in the first round.
        """
        entries: list[tuple[Architecture, dict[str, float], float]] = []
        shown: list[float] = []
        if race is None:
            scores = percentile_scores([m.values for m in measured.values()])
            for arch, score in zip(measured, scores, strict=True):
                if score is not None:
                    entries.append((arch, {'score': round(score, 2)}, -score))
                    shown.append(score)
        else:
            for place, one in enumerate(race['finalists'], 1):
                if 'failed' not in one:
                    first = one['top1'][0]
                    entries.append(
                        (Architecture.parse(one['arch']), {'place': place, 'score': first}, place)
                    )
                    shown.append(first)
        macs = [self.budget.macs(arch) for arch, *_ in entries]
        costs = [
            (count, worse, measured[arch].latency_ms or 0.0)
            for count, (arch, _, worse) in zip(macs, entries, strict=True)
        ]
        front = sorted(pareto_front(costs), key=lambda i: costs[i])
        records = [
            {**entries[i][1], **self.network(entries[i][0], measured[entries[i][0]])} for i in front
        ]
        return records, list(zip(macs, shown, strict=True))

    def explain_budget(
        self, network: Mapping[str, Any], larger: Sequence[Architecture], because: str
    ) -> list[dict[str, Any]]:
        """How much of each limit the result uses, and why it leaves the rest; see :meth:`Budget.explain`."""
        arch = Architecture.parse(network['arch'])
        uses = self.budget.explain(arch, larger, because)
        if self.latency is not None:
            uses.append(
                {
                    'limit': '--max-latency',
                    'unit': 'ms per image',
                    'value': self.latency.limit,
                    'used': network.get('latency_ms'),
                    'why': because,
                }
            )
        return uses

    def fingerprint(self) -> dict[str, Any]:
        """The settings that determine the result."""
        return self.settings.fingerprint()

    def execute(self) -> None:
        """Complete the run unless it is complete already, and print its result.

        Raises:
            InputError: see :class:`RunFolder`; or no network meets the latency limit or can be measured.
            KeyboardInterrupt: Ctrl-C; says how far the run is and how to go on.
        """
        settings = self.settings
        self.latency = read_latency(settings)
        # A run that is resumed has passed this check.
        resumed = settings.resume and (Path(settings.work_dir) / 'run.json').exists()
        if self.latency is not None and not resumed:
            self.latency.within_limit(*self.smallest())
        self.folder = folder = open_folder(settings, self.TASK, self.fingerprint())
        command = resume_command(settings, self.tools / f'{self.TASK}.py')
        with folder, resumable(self._interrupted, command):
            complete = folder.is_complete()
            if complete:
                print(f'the run in {relative(folder.path)} is complete: its result')
            elif folder.resumed:
                print(f'resumed: {self.progress(folder.kept)} are done')
            self._complete(write_configs=not complete)
            self.print_result()

    def print_rows(self, network: Found, rows: Mapping[str, str]) -> None:
        """Print the summary that every run has, its network, costs and files, with further ``rows``."""
        folder = self.folder
        python, tools = relative(Path(sys.executable)), relative(self.tools)
        command = train_command(relative(network.config), self.data, python=python, tools=tools)
        print_summary(
            {
                'architecture': str(network.architecture),
                **cost_rows(network),
                **found_rows(network),
                **rows,
                'written': ', '.join(map(relative, (folder.result, folder.trace, folder.report))),
                'train it': command,
            }
        )

    def _complete(self, *, write_configs: bool) -> None:
        """Take all steps; of a complete run this gives its result again, from the trace, to compare."""
        remeasure, folder, measure = self.settings.remeasure, self.folder, self.measure
        known = known_measurements(folder.kept, remeasure=remeasure)
        if folder.resumed:
            self.latency = read_latency(self.settings, known)
        if self.latency is not None:
            measure = partial(self.latency.measure, measure)
        self.memo = Memo(measure, remeasure=remeasure, known=known)
        try:
            result = self.take_steps()
            if self.settings.latency_runtime != 'torch':
                result['latency_runtime'] = self.settings.latency_runtime
            if write_configs:
                folder.write_configs(self.configs.texts)
            folder.write_result(result)
        except KeyboardInterrupt:
            unfinished = write_configs and not folder.replaying
            if unfinished and (found := self.partial_result()) is not None:
                folder.write_configs(self.configs.texts)
                folder.write_so_far(found)
            raise

    def _interrupted(self) -> str:
        path = self.folder.so_far
        found = f', what it found is in {relative(path)}' if path.exists() else ''
        return self.progress(self.folder.records) + found


def run_on_main_rank(run: type[Run[S]], settings: S, tools: Path) -> None:
    """Execute a run on the main rank of the launcher, and let the other ranks help it to measure.

    Raises:
        InputError: the run's, on all ranks; or see :func:`~asvit_mm.engine.distributed.start_processes`.
    """
    start_processes(settings.launcher, find_device(settings.device))
    if is_main_process():
        with with_helpers():
            run(settings, tools).execute()
    else:
        help_main_rank()


def make_measure(settings: MeasuringSettings) -> ComplexityMeasure:
    """The measure on images of the data.

    Raises:
        InputError: missing or too few images.
    """
    images = load_batches(settings)
    device = find_device(settings.device)
    with printed_warnings():
        return ComplexityMeasure(images, settings.pixels, settings.seed, device)


def load_batches(settings: Any) -> torch.Tensor:
    """Images to measure on, (repeat, batch, channels, pixels, pixels).

    Raises:
        InputError: missing or too few images.
    """
    if settings.source.spec == 'noise':
        print(f'note: {NOISE_COST}')
    repeat, batch = settings.repeat, settings.batch_size
    images = load_images(settings.source, settings.pixels, repeat * batch, settings.seed)
    return images.reshape(repeat, batch, *images.shape[1:])


def versions(device: torch.device, runtime: str = 'torch') -> dict[str, str]:
    """Versions and device, as plain data; the last digits of a result may depend on them.

    Args:
        runtime: that networks are timed in.
    """
    found = {
        'asvit_mm': __version__,
        'python': platform.python_version(),
        'torch': torch.__version__,
    }
    for name in ('numpy', 'onedl-mmengine', 'onedl-mmcv', 'onedl-mmpretrain', runtime):
        try:
            # torch has said more of itself above, such as '+cu128'.
            found.setdefault(name, version(name))
        except PackageNotFoundError:
            found.setdefault(name, 'not installed')
    on_gpu = device.type == 'cuda'
    found['device'] = torch.cuda.get_device_name(device) if on_gpu else platform.machine()
    return found


def open_folder(settings: RunSettings, task: str, fingerprint: Mapping[str, Any]) -> RunFolder:
    """The folder of the run, new or with the run that is resumed; notes on the latter are printed.

    Args:
        task: part of run.json, so that no search is resumed as a scaling run.
        fingerprint: the settings that determine the result.

    Raises:
        InputError: see :class:`RunFolder`.
    """
    device = find_device(settings.device)
    kernel = 'asvit_mm' if device.type == 'cpu' and attention.has_kernel() else 'torch'
    folder = RunFolder(
        settings.work_dir,
        {
            'task': task,
            'settings': fingerprint,
            'versions': versions(device, settings.latency_runtime),
            'attention_kernel': kernel,
        },
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


def read_budget(settings: RunSettings, max_params: str | int | None = None) -> Budget:
    """The limits on parameters and multiply-adds, for the classifier that the configs train."""
    data, max_macs = settings.source, as_count(settings.max_flops, 'multiply-adds')
    return Budget(data.num_classes, data.img_size, as_count(max_params), max_macs, data.in_channels)


def read_latency(settings: RunSettings, known: Known | None = None) -> Latency | None:
    """The latency limit of the settings; None if there is none.

    Args:
        known: measurements of the run that is resumed.

    Raises:
        InputError: the limit is not a positive number, or the runtime is not installed.
    """
    if settings.max_latency is None:
        return None
    data = settings.source
    latencies: dict[Architecture, float] = {}
    for (arch, _), measurement in (known or {}).items():
        if measurement.latency_ms is not None:
            latencies.setdefault(arch, measurement.latency_ms)
    runtime = RUNTIMES[settings.latency_runtime]
    if runtime is not None:
        require_packages(runtime)
    deployed = None if runtime is None else partial(deploy, name=runtime)
    device = find_device(settings.device)
    clock = Clock(data.num_classes, data.img_size, device, deployed, data.in_channels)
    return Latency(clock, settings.max_latency, latencies)


def known_measurements(records: Iterable[Mapping[str, Any]], *, remeasure: bool = False) -> Known:
    """The measurements in the records of a trace, for :class:`~asvit_mm.nas.Memo`.

    Nothing is checked here: :meth:`RunFolder.append` compares every record with the recomputed one.

    Args:
        records: of the trace; those of members of a series are skipped, as they repeat those of candidates,
            and those of a race.
        remeasure: whether every record has a measurement of its own.

    Raises:
        InputError: a record names no architecture.
    """
    found: dict[Request, Measurement] = {}
    draws: Counter[Architecture] = Counter()
    for record in records:
        if 'candidates' in record or 'race' in record:
            continue
        arch = Architecture.parse(str(record.get('arch')))
        request = (arch, draws[arch] if remeasure else 0)
        found.setdefault(request, Measurement.from_record(record))
        draws[arch] += 1
    return found


@contextmanager
def resumable(progress: Callable[[], str], command: str) -> Iterator[None]:
    """Make the message of Ctrl-C say how far the run is and how to go on.

    Args:
        progress: called on Ctrl-C; what is done, for 'interrupted after ...'.
        command: the one that resumes the run.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f'interrupted after {progress()}; go on with: {command}') from None


def resume_command(settings: RunSettings, script: Path) -> str:
    """The command that resumes a run, with all settings that differ from the defaults."""
    words = [relative(Path(sys.executable))]
    if settings.launcher == 'pytorch':
        processes = os.environ.get('LOCAL_WORLD_SIZE', '1')
        words += ['-m', 'torch.distributed.run', f'--nproc_per_node={processes}']
    arguments = as_arguments(settings, leave_out=('overwrite', 'resume'))
    return shlex.join([*words, relative(script), *arguments, '--resume'])
