"""What makes the runs of tools/search.py and tools/scale.py resumable."""

import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..arch import Architecture
from ..measures import Score
from ..nas import Measurement, Request, is_refused, recorded_latency, too_slow
from .folder import RunFolder
from .setup import MeasuringSettings, find_device, relative, versions


@dataclass(frozen=True, kw_only=True)
class RunSettings(MeasuringSettings):
    """Settings of a run that can be resumed.

    Args:
        max_params: parameters that no returned network exceeds ('30M'); None: no limit.
        max_flops: multiply-adds of an image that none exceeds ('5G').
        max_latency: milliseconds that none takes for an image, on ``device``.
        remeasure: whether an architecture that comes again is measured anew.
        launcher: what started the processes that share the measurements; MMEngine's names.
        resume: whether the run in ``work_dir`` goes on.
    """

    max_params: str | int | None = None
    max_flops: str | int | None = None
    max_latency: float | None = None
    remeasure: bool = False
    launcher: str = 'none'
    resume: bool = False

    def decisive(self) -> dict[str, Any]:
        """The settings that decide the result, as plain data; a resumed run must have the same."""
        values = asdict(self)
        for name in ('work_dir', 'overwrite', 'resume', 'launcher'):
            del values[name]
        device = find_device(self.device)
        return {**values, 'img_size': self.pixels, 'device': device.type}

    def command(self, script: Path, *positional: str) -> str:
        """The command that resumes this run, with what differs from the defaults.

        Args:
            script: the tool.
            positional: names of the settings that it takes without a flag.
        """
        words = [relative(Path(sys.executable))]
        if self.launcher == 'pytorch':
            processes = os.environ.get('LOCAL_WORLD_SIZE', '1')
            words += ['-m', 'torch.distributed.run', f'--nproc_per_node={processes}']
        words += [relative(script)]
        words += [str(getattr(self, name)) for name in positional]
        for field in fields(self):
            value = getattr(self, field.name)
            if value == field.default or field.name in (*positional, 'overwrite', 'resume'):
                continue
            words.append(f'--{field.name.replace("_", "-")}')
            if isinstance(value, list | tuple):
                words += map(str, value)
            elif value is not True:
                words.append(str(value))
        return shlex.join([*words, '--resume'])


def open_folder(settings: RunSettings, task: str, **decisive: Any) -> RunFolder:
    """The folder of the run, new or taken up again; says so where ``--resume`` finds none.

    Args:
        task: what the run does, so that no search is resumed as a scaling run.
        decisive: settings to be compared, and written, in another form than they were given in.

    Raises:
        InputError: see :class:`RunFolder`.
    """
    run = {
        'task': task,
        'settings': {**settings.decisive(), **decisive},
        'versions': versions(find_device(settings.device)),
    }
    folder = RunFolder(settings.work_dir, run, resume=settings.resume, overwrite=settings.overwrite)
    if settings.resume and not folder.resumed:
        print(f'{relative(folder.path)} holds no run yet: this one starts from scratch')
    return folder


def known(
    records: Iterable[Mapping[str, Any]], *, name: str = 'arch', remeasure: bool = False
) -> dict[Request, Measurement]:
    """The measurements that a trace holds, for :class:`~asvit_mm.nas.Memo`.

    Nothing is checked here: :meth:`RunFolder.append` compares the whole of every record with what the
    run makes of it.

    Args:
        records: those with a measurement.
        name: of the field that has the measured architecture.
        remeasure: whether every record has a measurement of its own.

    Raises:
        InputError: a record names no architecture.
    """
    found: dict[Request, Measurement] = {}
    draws: Counter[Architecture] = Counter()
    for record in records:
        arch = Architecture.parse(str(record.get(name)))
        found.setdefault((arch, draws[arch] if remeasure else 0), recorded(record))
        draws[arch] += 1
    return found


def recorded(record: Mapping[str, Any]) -> Measurement:
    """The measurement that :func:`asvit_mm.nas.measured_fields` made the record's fields of.

    A value that is no number becomes a bad score, whose fields the record then differs from.
    """
    names = ('length_distortion', 'ntk_condition_number')
    values = [record.get(name) for name in names]
    reasons = [str(record.get('bad'))] * 2
    latency = recorded_latency(record)
    if values == [None, None]:
        if is_refused(record):
            return replace(too_slow(reasons[0]), latency_ms=latency)
        first, separator, second = reasons[0].partition(f'; {names[1]}: ')
        reasons = [first, separator.removeprefix('; ') + second]
    length, kappa = (
        Score(value) if isinstance(value, float) else Score.bad(reason.removeprefix(f'{name}: '))
        for name, value, reason in zip(names, values, reasons, strict=True)
    )
    return Measurement(length, kappa, latency)


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
