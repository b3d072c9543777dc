"""The folder of a study: what it is (study.json) and one file an architecture that is done."""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..utils.files import atomic_write_json
from ..utils.identity import first_difference, read_object

FORMAT = 1
REPORTS = (
    'report.json', 'report.md', 'scatter.png', 'repeats.png', 'comparison.png', 'curves.png',
)  # fmt: skip
FOLDERS = ('records', 'logs', 'training', 'searches')
ANOTHER = 'give --overwrite, or another --work-dir'


class StudyFolder:
    """Settings and records of a study, each written whole or not at all.

    A record is there when its architecture is done, so a study that was killed goes on with those that
    have none.

    Args:
        path: the folder.
        study: what decides the records, as plain data: settings, versions and ``architectures``.
        fixed: how many of the first architectures make the study; more can be added to them at any time,
            and stay. None: all of them, and no other.
    """

    def __init__(self, path: str, study: Mapping[str, Any], *, fixed: int | None = None) -> None:
        self.path = Path(path)
        self.fixed = fixed
        # As it will be read back: tuples become lists.
        self.study: dict[str, Any] = json.loads(json.dumps({'format': FORMAT, **study}))

    @property
    def settings(self) -> Path:
        """The file that says what is studied."""
        return self.path / 'study.json'

    def record(self, index: int) -> Path:
        """The file of an architecture."""
        return self.path / 'records' / f'{index:03d}.json'

    def log(self, index: int) -> Path:
        """The log of an architecture's training."""
        return self.path / 'logs' / f'{index:03d}.log'

    def training(self, index: int) -> Path:
        """The folder in which an architecture is trained; it does not outlive the training."""
        return self.path / 'training' / f'{index:03d}'

    def open(self, *, resume: bool = False, overwrite: bool = False) -> None:
        """Create the folder, or take up the same study in it again.

        Raises:
            InputError: there is a study already and neither is asked for, another study is to be
                resumed, a record cannot be read, or the folder cannot be written.
        """
        if resume and overwrite:
            raise InputError('--resume keeps what is there and --overwrite removes it: give one')
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if overwrite:
                self._remove()
            if self.settings.exists():
                if not resume:
                    raise InputError(
                        f'{self.settings} exists already: give --resume to go on with that study, '
                        '--overwrite to replace it, or another --work-dir'
                    )
                self._check_same()
                self.read_all()
                # Only where architectures were added is this another file than before.
                atomic_write_json(self.settings, self.study)
            else:
                atomic_write_json(self.settings, self.study)
        except OSError as error:
            raise InputError(
                f'work dir {str(self.path)!r} cannot be written ({error.strerror}): give another'
            ) from None

    def add(self, archs: Iterable[str]) -> None:
        """Add the architectures that the study lacks."""
        there = {one['arch'] for one in self.study['architectures']}
        self.study['architectures'] += [
            {'arch': arch} for arch in dict.fromkeys(archs) if arch not in there
        ]
        atomic_write_json(self.settings, self.study)

    def join(self) -> None:
        """Take over what another process of the launcher has opened, or added."""
        self.study = read_object(self.settings, ANOTHER)

    def done(self) -> list[int]:
        """The architectures that have a record."""
        return [i for i in range(len(self.study['architectures'])) if self.record(i).is_file()]

    def write(self, record: Mapping[str, Any]) -> None:
        """Write the record of the architecture ``record['index']``."""
        atomic_write_json(self.record(record['index']), {'format': FORMAT, **record})

    def read_all(self) -> list[dict[str, Any]]:
        """The records that are there, in the order of the architectures.

        Raises:
            InputError: one cannot be read, is of another version, or of another architecture.
        """
        return [self._read(i) for i in self.done()]

    def _read(self, index: int) -> dict[str, Any]:
        path = self.record(index)
        record = read_object(path, 'remove it and give --resume: it is done again')
        expected = {
            'format': FORMAT,
            'index': index,
            'arch': self.study['architectures'][index]['arch'],
        }
        for key, value in expected.items():
            if record.get(key) != value:
                raise InputError(
                    f'{path} has {key} = {record.get(key)!r} and this study {value!r}: remove it and '
                    'give --resume: it is done again'
                )
        return record

    def _check_same(self) -> None:
        """Refuse another study; take over the architectures that were added to this one."""
        theirs = read_object(self.settings, ANOTHER)
        there, added = theirs.get('architectures'), []
        if self.fixed is not None and isinstance(there, list):
            added = there[self.fixed :]
            theirs = {**theirs, 'architectures': there[: self.fixed]}
        mine = self.study['architectures']
        difference = first_difference(theirs, {**self.study, 'architectures': mine[: self.fixed]})
        if difference:
            raise InputError(
                f'{self.settings} is of another study ({difference}): resume it with its own settings, '
                f'{ANOTHER}'
            )
        if self.fixed is not None:
            mine[self.fixed :] = [*added, *(one for one in mine[self.fixed :] if one not in added)]

    def _remove(self) -> None:
        self.settings.unlink(missing_ok=True)
        for name in FOLDERS:
            shutil.rmtree(self.path / name, ignore_errors=True)
        for name in REPORTS:
            (self.path / name).unlink(missing_ok=True)
