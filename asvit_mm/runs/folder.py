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
from ..utils.files import (
    atomic_directory,
    atomic_write_json,
    first_difference,
    parse_object,
    read_object,
)

FORMAT = 3
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


class RunFolder:
    """Creates the folder, or opens it to resume the run in it, and appends to the trace; a context manager.

    The trace is the only state. A resumed run recomputes its records from the measurements in them, and
    ``append`` compares each with the one in the file until these are used up; then it goes on. Times are kept
    apart, in timing.jsonl: all other files of a run that was killed and resumed are those of an
    uninterrupted one.

    Args:
        path: the folder.
        run: what determines the result, as plain data: task, settings and versions. A run is only resumed
            with the same.
        facts: what else run.json and result.json say of the run; those of its first part are kept.
        resume: whether to resume a run that is there.
        overwrite: whether to remove what an earlier run wrote there.

    Attributes:
        run: content of run.json. A resumed run keeps its number of threads, as sums depend on it in the last
            digits; torch has it within the ``with`` block.
        kept: records of the run that is resumed.
        resumed: whether there is one.
        seconds: time for the trace, all parts of the run together, without what a kill lost.
        settings, result, trace, timing, report, configs: paths in the folder.
        so_far: path of what an interrupted run has found, which is there until the run is complete.

    Raises:
        InputError: the folder cannot be written, has a run and neither flag is given, has another run than
            is to be resumed or one that cannot be read, or another process is at work in it.
    """

    def __init__(
        self,
        path: str,
        run: Mapping[str, Any],
        *,
        facts: Mapping[str, Any] | None = None,
        resume: bool = False,
        overwrite: bool = False,
    ) -> None:
        if resume and overwrite:
            raise InputError('--resume keeps what is there and --overwrite removes it: give one')
        self.path = Path(path)
        self.settings = self.path / 'run.json'
        self.result = self.path / 'result.json'
        self.so_far = self.path / 'so_far.json'
        self.trace = self.path / 'trace.jsonl'
        self.timing = self.path / 'timing.jsonl'
        self.report = self.path / 'report.html'
        self.configs = self.path / 'configs'
        self._threads = torch.get_num_threads()
        self._facts = dict(facts or {})
        run = {'format': FORMAT, **run, 'threads': self._threads, **self._facts}
        # As it will be read back: tuples become lists.
        self.run: dict[str, Any] = json.loads(json.dumps(run))
        self.kept: list[dict[str, Any]] = []
        self.resumed = False
        self.seconds = 0.0
        self._lines: list[str] = []
        self._records: list[Mapping[str, Any]] = []
        self._lock = FileLock(self.path / '.lock', timeout=0)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            for name in NAMES:
                for unfinished in self.path.glob(f'.{name}.????????'):
                    _remove(unfinished)
                if overwrite:
                    _remove(self.path / name)
            self._open(resume)
            self._files = [path.open('a', encoding='utf-8') for path in (self.trace, self.timing)]
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
    def replaying(self) -> bool:
        """Whether the trace has the next record already."""
        return len(self._records) < len(self._lines)

    @property
    def records(self) -> Sequence[Mapping[str, Any]]:
        """The records of the trace: those in the file, until this run has more."""
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
            timing = json.dumps({'line': len(self._records) + 1, 'seconds': taken})
            for file, text in zip(self._files, (line, timing), strict=True):
                file.write(text + '\n')
                file.flush()
            self.seconds += taken
            # What an interrupted run had found is out of date.
            _remove(self.so_far)
        self._records.append(record)
        self._since = now

    def write_configs(self, texts: Mapping[str, str]) -> None:
        """Write the configs (file name to text), all of them or none."""
        shutil.rmtree(self.configs, ignore_errors=True)
        with atomic_directory(self.configs) as folder:
            for name, text in texts.items():
                (folder / name).write_text(text, encoding='utf-8')

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write result.json: the task, ``result`` and ``run``. If it is there, the run is complete.

        Raises:
            InputError: the trace has more records than this run.
        """
        if self.replaying:
            raise InputError(
                f'{self.trace} has {len(self._lines)} lines and this run gives '
                f'{len(self._records)}: {ANOTHER}'
            )
        _remove(self.so_far)
        self._write_json(self.result, result)

    def write_so_far(self, result: Mapping[str, Any]) -> None:
        """Write so_far.json: what a run that is interrupted has found."""
        if not self.result.exists():
            self._write_json(self.so_far, result)

    def is_complete(self) -> bool:
        """Whether the folder has the result of this run.

        Raises:
            InputError: result.json is of another run, or cannot be read.
        """
        if not self.result.exists():
            return False
        result = read_object(self.result, f'remove it and give --resume again, or {ANOTHER}')
        self._refuse_another(self.result, {key: result.get(key) for key in self.run})
        return True

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
        for file in self._files:
            file.close()
        self._lock.release()

    def _write_json(self, path: Path, result: Mapping[str, Any]) -> None:
        atomic_write_json(path, {'task': self.run['task'], **result, **self.run})

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
        self.run |= {name: theirs.get(name) for name in self._facts}
        self._lines = _whole_lines(self.trace)
        self.kept = _objects(self.trace, self._lines)
        for record in _objects(self.timing, _whole_lines(self.timing)):
            taken = record.get('seconds')
            self.seconds += taken if isinstance(taken, float) else 0.0
        self.resumed = True

    def _refuse_another(self, path: Path, theirs: Mapping[str, Any]) -> None:
        compared = [
            {name: value for name, value in run.items() if name not in self._facts}
            for run in (theirs, self.run)
        ]
        if difference := first_difference(*compared):
            raise InputError(
                f'{path} is of another run ({difference}): resume it with its own settings and '
                f'versions, {ANOTHER}'
            )

    def _compare(self, line: str) -> None:
        number = len(self._records)
        if line != self._lines[number]:
            difference = first_difference(self.kept[number], json.loads(line))
            raise InputError(
                f'line {number + 1} of {self.trace} is not what this run gives '
                f'({difference or "the text differs"}): {ANOTHER}'
            )


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _whole_lines(path: Path) -> list[str]:
    """The lines of a file, without their ends; an unfinished last one is removed from the file."""
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data.rfind(b'\n') + 1
    if whole < len(data):
        os.truncate(path, whole)
    # Bytes that are not UTF-8 become a character that no record equals, and that is not JSON.
    return data[:whole].decode('utf-8', errors='replace').split('\n')[:-1]


def _objects(path: Path, lines: list[str]) -> list[dict[str, Any]]:
    return [
        parse_object(line, f'line {number} of {path}', ANOTHER)
        for number, line in enumerate(lines, 1)
    ]
