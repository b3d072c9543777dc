"""What makes the runs of tools/search.py and tools/scale.py resumable."""

import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..arch import Architecture
from ..complexity import Score
from ..search import Measure, Measurement
from .folder import RunFolder
from .setup import MeasuringSettings, find_device, relative, versions


@dataclass(frozen=True, kw_only=True)
class RunSettings(MeasuringSettings):
    """Settings of a run that can be resumed.

    Args:
        resume: whether the run in ``work_dir`` goes on.
    """

    resume: bool = False

    def decisive(self) -> dict[str, Any]:
        """The settings that decide the result, as plain data; a resumed run must have the same."""
        values = asdict(self)
        for name in ('work_dir', 'overwrite', 'resume'):
            del values[name]
        device = find_device(self.device)
        return {**values, 'img_size': self.pixels, 'device': device.type}

    def command(self, script: Path, *positional: str) -> str:
        """The command that resumes this run, with what differs from the defaults.

        Args:
            script: the tool.
            positional: names of the settings that it takes without a flag.
        """
        words = [relative(Path(sys.executable)), relative(script)]
        words += [str(getattr(self, name)) for name in positional]
        for field in fields(self):
            value = getattr(self, field.name)
            if value == field.default or field.name in (*positional, 'overwrite', 'resume'):
                continue
            words.append(f'--{field.name.replace("_", "-")}')
            if value is not True:
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


def recalling(measure: Measure, records: Iterable[Mapping[str, Any]]) -> Measure:
    """``measure``, but the first measurements are those of a trace, one a record, in its order.

    Nothing is checked here: the record that comes of a measurement names its architecture, and
    :meth:`RunFolder.append` compares the whole of it.
    """
    left = iter(records)

    def measure_or_recall(arch: Architecture, *key: int) -> Measurement:
        record = next(left, None)
        return measure(arch, *key) if record is None else recorded(record)

    return measure_or_recall


def recorded(record: Mapping[str, Any]) -> Measurement:
    """The measurement that :func:`asvit_mm.search.measured_fields` made the record's fields of.

    A value that is no number becomes a bad score, whose fields the record then differs from.
    """
    names = ('length_distortion', 'ntk_condition_number')
    values = [record.get(name) for name in names]
    reasons = [str(record.get('bad'))] * 2
    if values == [None, None]:
        first, separator, second = reasons[0].partition(f'; {names[1]}: ')
        reasons = [first, separator.removeprefix('; ') + second]
    scores = [
        Score(value) if isinstance(value, float) else Score.bad(reason.removeprefix(f'{name}: '))
        for name, value, reason in zip(names, values, reasons, strict=True)
    ]
    return Measurement(*scores)


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
