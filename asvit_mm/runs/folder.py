"""The folder of a run: what it is (run.json), its trace, result, configs, pictures and times."""

import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from filelock import FileLock, Timeout

from ..errors import InputError
from ..utils.files import atomic_directory, atomic_write_json
from ..utils.identity import first_difference, parse_object, read_object

FORMAT = 2
NAMES = (
    'run.json',
    'result.json',
    'so_far.json',
    'trace.jsonl',
    'timing.jsonl',
    'configs',
    'report.html',
    'search.png',
    'policy.png',
    'scaling.png',
    'family.png',
    'measured.png',
    'architecture.png',
)
ANOTHER = 'give --overwrite, or another --work-dir'
LOCK = '.lock'


class RunFolder:
    """Creates the folder or takes up the run in it again, appends the trace; a context manager.

    The trace is all the state that there is. A resumed run works its records out again, from the
    measurements in them, and ``append`` compares each with the file's until they are used up; then
    it goes on. Times lie apart, in timing.jsonl: every other file of a run that was killed and
    resumed is that of an undisturbed one.

    Args:
        path: the folder.
        run: what decides the result, as plain data: task, settings and versions.
        resume: whether a run that is there goes on.
        overwrite: whether what an earlier run wrote there is removed.

    Attributes:
        run: content of run.json. With a run taken up, the number of threads is that run's: sums
            depend on it in the last digits. It holds for torch within the ``with`` block.
        kept: records of the run that is taken up.
        resumed: whether a run is taken up.
        seconds: that the trace took, all parts of the run together, less what a kill lost.

    Raises:
        InputError: the folder cannot be written, there is a run already and neither is asked for, or
            what is to be resumed is another run, or cannot be read, or a process is at work in it.
    """

    def __init__(
        self,
        path: str,
        run: Mapping[str, Any],
        *,
        resume: bool = False,
        overwrite: bool = False,
    ) -> None:
        if resume and overwrite:
            raise InputError('--resume keeps what is there and --overwrite removes it: give one')
        self.path = Path(path)
        self._threads = torch.get_num_threads()
        # As it will be read back: tuples become lists.
        self.run: dict[str, Any] = json.loads(
            json.dumps({'format': FORMAT, **run, 'threads': self._threads})
        )
        self.kept: list[dict[str, Any]] = []
        self.resumed = False
        self._lines: list[str] = []
        self._records: list[Mapping[str, Any]] = []
        self.seconds = 0.0
        self._lock = FileLock(self.path / LOCK, timeout=0)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            self._remove_unfinished()
            if overwrite:
                self._remove()
            self._open(resume)
            self._trace = self.trace.open('a', encoding='utf-8')
            self._timing = self.timing.open('a', encoding='utf-8')
        except Timeout:
            raise InputError(
                f'another process is at work in {str(self.path)!r}: wait for it, or give another '
                '--work-dir'
            ) from None
        except OSError as error:
            self._lock.release()
            raise InputError(
                f'work dir {str(self.path)!r} cannot be written ({error.strerror}): give another'
            ) from None
        except InputError:
            self._lock.release()
            raise
        self._since = time.perf_counter()

    @property
    def settings(self) -> Path:
        """The file that says of which run the folder is."""
        return self.path / 'run.json'

    @property
    def result(self) -> Path:
        """The result's file."""
        return self.path / 'result.json'

    @property
    def so_far(self) -> Path:
        """What a run that was interrupted had found; there until the run is complete."""
        return self.path / 'so_far.json'

    @property
    def trace(self) -> Path:
        """The trace's file, one JSON object a line."""
        return self.path / 'trace.jsonl'

    @property
    def timing(self) -> Path:
        """The file of the seconds that each line of the trace took, one JSON object a line."""
        return self.path / 'timing.jsonl'

    @property
    def configs(self) -> Path:
        """The folder of the written configs."""
        return self.path / 'configs'

    @property
    def replaying(self) -> bool:
        """Whether the next record is one that the trace has already."""
        return len(self._records) < len(self._lines)

    @property
    def records(self) -> Sequence[Mapping[str, Any]]:
        """What the trace has: this run's records, or the file's while there are more of those."""
        return self.kept if self.replaying else self._records

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record to the trace; it is in the file when this returns.

        Raises:
            InputError: the trace has another record in this place.
        """
        line = json.dumps(record, allow_nan=False)
        now = time.perf_counter()
        if self.replaying:
            self._compare(line)
        else:
            taken = round(now - self._since, 3)
            for file, text in (
                (self._trace, line),
                (self._timing, json.dumps({'line': len(self._records) + 1, 'seconds': taken})),
            ):
                file.write(text + '\n')
                file.flush()
            self.seconds += taken
            # What an interrupted run had found is out of date.
            _remove(self.so_far)
        self._records.append(record)
        self._since = now

    def write_configs(self, texts: Mapping[str, str]) -> None:
        """Write the configs (file name to text), all of them or none."""
        # A run that was killed after this point is resumed before it.
        shutil.rmtree(self.configs, ignore_errors=True)
        with atomic_directory(self.configs) as folder:
            for name, text in texts.items():
                (folder / name).write_text(text, encoding='utf-8')

    def write_result(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Write result.json, which says by being there that the run is complete.

        Returns:
            its content: the task, ``result`` and the rest of ``run``.

        Raises:
            InputError: the trace has more records than this run.
        """
        if self.replaying:
            raise InputError(
                f'{self.trace} has {len(self._lines)} lines and this run gives '
                f'{len(self._records)}: {ANOTHER}'
            )
        _remove(self.so_far)
        return self._write_json(self.result, result)

    def write_so_far(self, result: Mapping[str, Any]) -> None:
        """Write so_far.json: what is found, of a run that is interrupted before it is complete."""
        if not self.result.exists():
            self._write_json(self.so_far, result)

    def read_result(self) -> dict[str, Any] | None:
        """The result of the run that is taken up; None where it is not complete.

        Raises:
            InputError: result.json is of another run, or cannot be read.
        """
        if not self.result.exists():
            return None
        result = read_object(self.result, f'remove it and give --resume again, or {ANOTHER}')
        self._refuse_another(self.result, {key: result.get(key) for key in self.run})
        return result

    def __enter__(self) -> 'RunFolder':
        torch.set_num_threads(self.run['threads'])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        torch.set_num_threads(self._threads)
        self._trace.close()
        self._timing.close()
        self._lock.release()

    def _write_json(self, path: Path, result: Mapping[str, Any]) -> dict[str, Any]:
        whole = {'task': self.run['task'], **result, **self.run}
        atomic_write_json(path, whole)
        return whole

    def _open(self, resume: bool) -> None:
        found = [path for name in NAMES if (path := self.path / name).exists()]
        if found and not resume:
            raise InputError(
                f'{found[0]} exists already: give --resume to go on with that run, --overwrite to '
                'replace it, or another --work-dir'
            )
        if not found:
            atomic_write_json(self.settings, self.run)
            return
        if not self.settings.exists():
            raise InputError(
                f'{found[0]} is there without a run.json, which says of which run it is: {ANOTHER}'
            )
        theirs = read_object(self.settings, ANOTHER)
        threads = theirs.get('threads')
        if type(threads) is int and threads > 0:
            self.run['threads'] = threads
        self._refuse_another(self.settings, theirs)
        self._lines = _whole_lines(self.trace)
        self.kept = _objects(self.trace, self._lines)
        for record in _objects(self.timing, _whole_lines(self.timing)):
            taken = record.get('seconds')
            self.seconds += taken if isinstance(taken, float) else 0.0
        self.resumed = True

    def _refuse_another(self, path: Path, theirs: Mapping[str, Any]) -> None:
        difference = first_difference(theirs, self.run)
        if difference:
            raise InputError(
                f'{path} is of another run ({difference}): resume it with its own settings and '
                f'versions, {ANOTHER}'
            )

    def _compare(self, line: str) -> None:
        if line == self._lines[len(self._records)]:
            return
        difference = first_difference(self.kept[len(self._records)], json.loads(line))
        raise InputError(
            f'line {len(self._records) + 1} of {self.trace} is not what this run gives '
            f'({difference or "it is spelt otherwise"}): {ANOTHER}'
        )

    def _remove(self) -> None:
        for name in NAMES:
            _remove(self.path / name)

    def _remove_unfinished(self) -> None:
        """Remove what a kill left of files that were being written."""
        for name in NAMES:
            for path in self.path.glob(f'.{name}.????????'):
                _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _whole_lines(path: Path) -> list[str]:
    """The lines of a file, without ends; one that was not finished is removed from the file."""
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data.rfind(b'\n') + 1
    if whole < len(data):
        os.truncate(path, whole)
    # Bytes that are no text make a line that no record equals, and that is no JSON.
    return data[:whole].decode('utf-8', errors='replace').split('\n')[:-1]


def _objects(path: Path, lines: list[str]) -> list[dict[str, Any]]:
    return [
        parse_object(line, f'line {number} of {path}', ANOTHER)
        for number, line in enumerate(lines, 1)
    ]
