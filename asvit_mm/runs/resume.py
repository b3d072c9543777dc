"""What makes the runs of tools/search.py and tools/scale.py resumable."""

import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..arch import Architecture
from ..measures import Score
from ..nas import Measurement, Request, is_refused, recorded_latency, too_slow
from ..utils.command_line import as_arguments
from .folder import RunFolder
from .settings import RunSettings, find_device
from .setup import relative, versions


def resume_command(settings: RunSettings, script: Path) -> str:
    """The command that resumes a run, with what differs from the defaults."""
    words = [relative(Path(sys.executable))]
    if settings.launcher == 'pytorch':
        processes = os.environ.get('LOCAL_WORLD_SIZE', '1')
        words += ['-m', 'torch.distributed.run', f'--nproc_per_node={processes}']
    arguments = as_arguments(settings, leave_out=('overwrite', 'resume'))
    return shlex.join([*words, relative(script), *arguments, '--resume'])


def open_folder(settings: RunSettings, task: str, **fingerprint: Any) -> RunFolder:
    """The folder of the run, new or taken up again; says so where ``--resume`` finds none.

    Args:
        task: what the run does, so that no search is resumed as a scaling run.
        fingerprint: settings to be compared, and written, in another form than they were given in.

    Raises:
        InputError: see :class:`RunFolder`.
    """
    run = {
        'task': task,
        'settings': {**settings.fingerprint(), **fingerprint},
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
