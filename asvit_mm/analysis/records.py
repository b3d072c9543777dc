"""The folder of a study: settings (study.json), one record per architecture, and a report at the end.

A record is written whole when its architecture is done, so a study that was killed goes on with those that
have none, and the processes of a launcher need to share nothing but the folder.
"""

import json
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from ..engine.distributed import Share, find_share, wait_for_all
from ..errors import InputError, ShareError
from ..runs.progress import show_progress
from ..runs.run import resumable, versions
from ..runs.settings import find_device
from ..utils.command_line import as_arguments
from ..utils.files import (
    atomic_write_json,
    atomic_write_text,
    first_difference,
    read_object,
    relative,
)
from .settings import StudySettings

FORMAT = 2
# What --overwrite removes.
PICTURES = ('scatter.png', 'repeats.png', 'comparison.png', 'curves.png')
FILES = ('study.json', 'report.json', 'report.md', *PICTURES)
FOLDERS = ('records', 'logs', 'training', 'searches')
ANOTHER = 'give --overwrite, or another --work-dir'
REDO = 'remove it and give --resume: it is done again'

Record = dict[str, Any]


class StudyFolder:
    """Settings and records of a study, shared by the processes that make it.

    Args:
        settings: where the folder is, and what determines the records.
        share: this process's share of the architectures.
        architectures: of each at least ``arch``, a string.
        fixed: how many of the first architectures define the study; others can be added to them at any time,
            and stay. None: all of them.
        more: further plain data that determines the records.

    Attributes:
        study: what study.json holds: settings, versions and architectures.
    """

    def __init__(
        self,
        settings: StudySettings,
        share: Share,
        architectures: list[Record],
        fixed: int | None = None,
        **more: Any,
    ) -> None:
        self.settings, self.share, self.fixed = settings, share, fixed
        self.path = Path(settings.work_dir)
        self.file = self.path / 'study.json'
        found = versions(find_device(settings.device))
        del found['device']  # another machine of the kind may go on
        study = {'settings': settings.fingerprint(), 'versions': found, **more}
        study = {'format': FORMAT, **study, 'architectures': architectures}
        # As it will be read back: tuples become lists.
        self.study: Record = json.loads(json.dumps(study))

    @property
    def architectures(self) -> list[Record]:
        """What is studied, in the order of the records."""
        found: list[Record] = self.study['architectures']
        return found

    def record(self, index: int) -> Path:
        """The file of an architecture's record."""
        return self.path / 'records' / f'{index:03d}.json'

    def done(self) -> list[int]:
        """The architectures that have a record."""
        return [i for i in range(len(self.architectures)) if self.record(i).is_file()]

    def progress(self) -> str:
        """How far the study is, in words."""
        return f'{len(self.done())} of {len(self.architectures)} architectures'

    def open(self) -> None:
        """Create the folder, or continue the same study in it; the main rank does, the others wait.

        Raises:
            InputError: there is a study already and it is neither to be resumed nor overwritten, another
            study is
                to be resumed, a record cannot be read, or the folder cannot be written.
        """
        if self.share.rank == 0:
            self._open()
            if self.done():
                print(f'resumed: {self.progress()} are done')
        self._join('folder')

    def add(self, archs: Iterable[str]) -> None:
        """Add the architectures that the study lacks; all processes call it with the same ones."""
        if self.share.rank == 0:
            there = {one['arch'] for one in self.architectures}
            self.architectures.extend(
                {'arch': arch} for arch in dict.fromkeys(archs) if arch not in there
            )
            atomic_write_json(self.file, self.study)
        self._join('results')

    def complete(
        self, measure: Callable[[int], Record], describe: Callable[[Record], str]
    ) -> list[Record]:
        """Write the records that are missing, each process its share, and wait for all.

        Args:
            measure: gives what the record of the architecture of that index holds.
            describe: a record in a few words, for the progress bar of the main rank.

        Returns:
            all records, in the order of the architectures.

        Raises:
            InputError: a record cannot be read, or ``measure`` raises it.
        """
        total, done = len(self.architectures), set(self.done())
        todo = [index for index in self.share.of(total) if index not in done]
        shown = show_progress('study', total) if self.share.rank == 0 else nullcontext()
        with own_errors(self.share), shown as show:
            for index in todo:
                known = {'format': FORMAT, 'index': index, **self.architectures[index]}
                record = {**known, **measure(index)}
                atomic_write_json(self.record(index), record)
                if show is not None:
                    show(len(self.done()), describe(record))
        wait_for_all(self.share, f'records {total}')
        return self.read_all()

    def read_all(self) -> list[Record]:
        """The records that are there, in the order of the architectures.

        Raises:
            InputError: one cannot be read, is of another version, or of another architecture.
        """
        return [self._read(i) for i in self.done()]

    @contextmanager
    def resumable(self, progress: Callable[[], str] | None = None) -> Iterator[None]:
        """Let Ctrl-C say how far the study is and how to go on; ``progress`` replaces the default words."""
        with resumable(progress or self.progress, f'{study_command(self.settings)} --resume'):
            yield

    def write_report(self, text: str, summary: Mapping[str, Any]) -> str:
        """Write report.md and report.json, the last file of a study; returns their paths for people."""
        page = atomic_write_text(self.path / 'report.md', text)
        return ', '.join(
            map(relative, (atomic_write_json(self.path / 'report.json', summary), page))
        )

    def _open(self) -> None:
        if self.settings.resume and self.settings.overwrite:
            raise InputError('--resume keeps what is there and --overwrite removes it: give one')
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if self.settings.overwrite:
                self._remove()
            if self.file.exists():
                if not self.settings.resume:
                    raise InputError(
                        f'{self.file} exists already: give --resume to go on with that study, '
                        '--overwrite to replace it, or another --work-dir'
                    )
                self._check_same()
                self.read_all()
            atomic_write_json(self.file, self.study)
        except OSError as error:
            raise InputError(
                f'work dir {str(self.path)!r} cannot be written ({error.strerror}): give another'
            ) from None

    def _join(self, place: str) -> None:
        """Wait for the main rank, and read what it has written."""
        wait_for_all(self.share, place)
        self.study = read_object(self.file, ANOTHER)

    def _read(self, index: int) -> Record:
        path = self.record(index)
        record = read_object(path, REDO)
        expected = {'format': FORMAT, 'index': index, 'arch': self.architectures[index]['arch']}
        for key, value in expected.items():
            if record.get(key) != value:
                raise InputError(
                    f'{path} has {key} = {record.get(key)!r} and this study {value!r}: {REDO}'
                )
        return record

    def _check_same(self) -> None:
        """Refuse another study; keep the architectures that were added to this one."""
        theirs = read_object(self.file, ANOTHER)
        there, added = theirs.get('architectures'), []
        if self.fixed is not None and isinstance(there, list):
            added = there[self.fixed :]
            theirs = {**theirs, 'architectures': there[: self.fixed]}
        mine = {**self.study, 'architectures': self.architectures[: self.fixed]}
        if difference := first_difference(theirs, mine):
            raise InputError(
                f'{self.file} is of another study ({difference}): resume it with its own settings, '
                f'{ANOTHER}'
            )
        new = [one for one in self.architectures[len(mine['architectures']) :] if one not in added]
        self.study = {**mine, 'architectures': [*mine['architectures'], *added, *new]}

    def _remove(self) -> None:
        for name in FILES:
            (self.path / name).unlink(missing_ok=True)
        for name in FOLDERS:
            shutil.rmtree(self.path / name, ignore_errors=True)


def take_share(settings: StudySettings) -> tuple[Share, torch.device]:
    """This process's share and its device; the number of threads holds from here on.

    Raises:
        InputError: not started by the launcher.
    """
    share = find_share(settings.launcher)
    device = share.device(find_device(settings.device))
    if device.type == 'cuda':
        torch.cuda.set_device(device)
    torch.set_num_threads(settings.threads)
    return share, device


@contextmanager
def own_errors(share: Share) -> Iterator[None]:
    """Let processes other than the main rank print the errors of their own share.

    Raises:
        ShareError: for an :class:`~asvit_mm.errors.InputError` in such a process.
    """
    try:
        yield
    except InputError as error:
        raise error if share.rank == 0 else ShareError(str(error)) from None


def study_command(settings: StudySettings) -> str:
    """The command that makes a study in one process, with what differs from the defaults."""
    tool = settings.TOOL
    arguments = as_arguments(settings, leave_out=('launcher', 'resume', 'overwrite'))
    return shlex.join(['python', f'tools/analysis_tools/{tool}.py', *arguments])


def markdown_table(header: list[str], rows: list[list[str]], text_columns: int = 1) -> str:
    """A table in Markdown, the first ``text_columns`` aligned left; '|' in a cell is escaped."""
    aligned = [' --- ' if i < text_columns else ' ---: ' for i in range(len(header))]
    cells = [[cell.replace('|', '\\|') for cell in row] for row in rows]
    lines = ['| ' + ' | '.join(row) + ' |' for row in (header, *cells)]
    return '\n'.join([lines[0], '|' + '|'.join(aligned) + '|', *lines[1:]])


def shown(value: float | None, spec: str = '.4g') -> str:
    """A figure for people; a dash where there is none."""
    return '-' if value is None else format(value, spec)


def mean_and_std(mean: float, std: float | None, spec: str = '.1f') -> str:
    """'1.0 ± 0.1', or the mean alone."""
    text = format(mean, spec)
    return text if std is None else f'{text} ± {format(std, spec.replace("+", ""))}'
