"""The folder of a study: settings (study.json), a record for each thing studied, and a report at the end.

A record is written whole when it is complete, so a study that was killed goes on with those that are
missing, and the processes of a launcher need to share nothing but the folder.
"""

import hashlib
import json
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import torch

from ..engine.distributed import Share, find_share, wait_for_all
from ..errors import InputError
from ..runs.progress import show_progress
from ..runs.run import resumable, versions
from ..runs.settings import find_device
from ..utils.command_line import as_arguments
from ..utils.files import (
    atomic_write_json,
    atomic_write_text,
    file_name,
    first_difference,
    read_object,
    refuse_special_files,
    relative,
)
from .settings import StudySettings

FORMAT = 5
# What --overwrite removes.
FILES = (
    'study.json',
    'report.json',
    'report.md',
    'scatter.png',
    'comparison.png',
    'curves.png',
    'tau.png',
)
FOLDERS = ('records', 'logs', 'training', 'searches')
ANOTHER = 'give --overwrite, or another --work-dir'

Record = dict[str, Any]
Item = TypeVar('Item')


def take_share(settings: StudySettings) -> tuple[Share, torch.device]:
    """This process's share and its device; sets torch's number of threads.

    Raises:
        InputError: not started by the launcher.
    """
    share = find_share(settings.launcher)
    device = share.device(find_device(settings.device))
    if device.type == 'cuda':
        torch.cuda.set_device(device)
    torch.set_num_threads(settings.threads)
    return share, device


class StudyFolder:
    """Creates the folder of a study, or opens it to resume the study; the main rank does, the others wait.

    Args:
        settings: where the folder is, and what determines the records.
        tool: the name of the script in tools/analysis_tools, without its ending.
        share: this process's share of the records.
        facts: further plain data that determines the records.

    Attributes:
        study: what study.json holds: settings, versions and facts.
        command: makes the study in one process.

    Raises:
        InputError: there is a study already and it is neither to be resumed nor overwritten, another study
            is to be resumed, the folder cannot be written, or a file of it is a link or a special file.
    """

    def __init__(self, settings: StudySettings, tool: str, share: Share, **facts: Any) -> None:
        self.settings, self.share = settings, share
        self.path = Path(settings.work_dir)
        arguments = as_arguments(settings, leave_out=('launcher', 'resume', 'overwrite'))
        self.command = shlex.join(['python', f'tools/analysis_tools/{tool}.py', *arguments])
        found = versions(find_device(settings.device))
        del found['device']  # another machine of the kind may go on
        study = {'format': FORMAT, 'settings': settings.fingerprint(), 'versions': found, **facts}
        # As it will be read back: tuples become lists.
        self.study: Record = json.loads(json.dumps(study))
        self._barriers = 0
        if share.rank == 0:
            self._open()
        self.wait()

    def complete(
        self,
        items: Mapping[str, Item],
        make: Callable[[str, Item], Record],
        describe: Callable[[Record], str],
    ) -> list[Record]:
        """Write the records that are missing, each process its share, and wait for all.

        Args:
            items: what a record is made for, by its name.
            make: gives the record, from name and item.
            describe: a record in a few words, for the progress bar of the main rank.

        Returns:
            the records of all items, in their order.

        Raises:
            InputError: a record cannot be read or was changed, or ``make`` raises it.
        """
        main = self.share.rank == 0
        progress = show_progress('study', len(items)) if main else nullcontext()
        done = [self._read(name)['name'] for name in items if self.record(name).exists()]
        if main and done:
            print(f'resumed: {len(done)} of {len(items)} are done')
        names = list(items)
        with progress as show:
            for name in (names[i] for i in self.share.of(len(names))):
                if name in done:
                    continue
                record = {'name': name, **make(name, items[name])}
                atomic_write_json(self.record(name), {**record, 'sha256': _digest(record)})
                if show is not None:
                    count = sum(self.record(other).is_file() for other in items)
                    show(count, f'{name}  {describe(record)}')
        self.wait()
        return [self._read(name) for name in items]

    def record(self, name: str) -> Path:
        """The file of a record."""
        return self.path / 'records' / f'{file_name(name)}.json'

    def wait(self) -> None:
        """Wait until all processes are here."""
        self._barriers += 1
        wait_for_all(self.share, f'study {self._barriers}')

    @contextmanager
    def resumable(self) -> Iterator[None]:
        """Let Ctrl-C say how far the study is and how to go on."""

        def progress() -> str:
            return f'{len(list(self.path.glob("records/*.json")))} records'

        with resumable(progress, f'{self.command} --resume'):
            yield

    def write_report(self, page: str, words: Mapping[str, Any], **summary: Any) -> Record:
        """Write report.md and report.json, the last file of a study, and print the table.

        Args:
            page: Markdown with {table}, {command} and further words, such as settings, by their names.
            words: what the page has beside settings and command, at least the table.
            summary: plain data.

        Returns:
            the content of report.json: ``study`` and ``summary``.
        """
        words = {**self.study['settings'], 'command': self.command, **words}
        report = {'study': self.study, **summary}
        written = (
            atomic_write_text(self.path / 'report.md', page.format_map(words)),
            atomic_write_json(self.path / 'report.json', report),
        )
        print(f'{words["table"]}\n\nwritten: {", ".join(map(relative, written))}')
        return report

    def _open(self) -> None:
        file, resume, overwrite = (
            self.path / 'study.json',
            self.settings.resume,
            self.settings.overwrite,
        )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            refuse_special_files(self.path / name for name in (*FILES, *FOLDERS))
            refuse_special_files(chain(*((self.path / name).rglob('*') for name in FOLDERS)))
            if overwrite:
                for name in FILES:
                    (self.path / name).unlink(missing_ok=True)
                for name in FOLDERS:
                    shutil.rmtree(self.path / name, ignore_errors=True)
            if not file.exists():
                atomic_write_json(file, self.study)
                return
        except OSError as error:
            raise InputError(
                f'work dir {str(self.path)!r} cannot be written ({error.strerror}): give another'
            ) from None
        if not resume:
            raise InputError(
                f'{file} exists already: give --resume to go on with that study, --overwrite to '
                'replace it, or another --work-dir'
            )
        if difference := first_difference(read_object(file, ANOTHER), self.study):
            raise InputError(
                f'{file} is of another study ({difference}): resume it with its own settings, {ANOTHER}'
            )

    def _read(self, name: str) -> Record:
        redo = 'remove it and give --resume: it is made again'
        record = read_object(self.record(name), redo)
        if record.get('name') != name:
            raise InputError(
                f'{self.record(name)} is of {record.get("name")!r}, not {name!r}: {redo}'
            )
        if record.pop('sha256', None) != _digest(record):
            raise InputError(f'{self.record(name)} was changed after it was written: {redo}')
        return record


def _digest(record: Mapping[str, Any]) -> str:
    """By which a record is known to be as it was written."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
