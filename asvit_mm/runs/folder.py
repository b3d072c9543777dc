"""The folder of a run: what it is (run.json), its trace, result, configs, pictures and times."""

import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
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
    refuse_special_files,
)

FORMAT = 4
PICTURES = ('search', 'policy', 'scaling', 'measured', 'front', 'race', 'architecture')
NAMES = (
    *('run.json', 'result.json', 'so_far.json', 'trace.jsonl', 'timing.jsonl', 'configs', 'race'),
    *('report.html', *(f'{name}.png' for name in PICTURES)),
)
# Both attention kernels give the same values up to rounding, so a run may be resumed with the other one.
NOT_COMPARED = 'attention_kernel'
ANOTHER = 'give --overwrite, or another --work-dir'
_AGAIN = f'remove it and give --resume again, or {ANOTHER}'


class RunFolder:
    """Creates the folder, or opens it to resume the run in it, and appends to the trace; a context manager.

    The trace is the only state. A resumed run replays it: it recomputes every record from the measurements in
    the trace, ``append`` compares it with the one in the file, and after the last of these the run goes on.
    Times are kept apart, in timing.jsonl, so all other files of a run that was killed and resumed equal those
    of an uninterrupted one.

    Args:
        path: the folder.
        run: what determines the result, as plain data: task, settings and versions. A run is resumed only
            with the same, except for ``attention_kernel``, which stays as the run began.
        resume: whether to resume a run that is there.
        overwrite: whether to remove what an earlier run wrote there.

    Attributes:
        run: content of run.json. A resumed run keeps its number of threads, as sums depend on it in the last
            digits; torch uses that number within the ``with`` block.
        kept: records of the run that is resumed.
        resumed: whether a run is resumed.
        seconds: time spent on the records of the trace, including those before a kill.
        result, trace, timing, report, configs: paths in the folder.
        so_far: path of what an interrupted run has found, which is there until the run is complete.

    Raises:
        InputError: the folder cannot be written; it holds a run and neither flag is given; the run to be
            resumed is another one or cannot be read; another process is at work in it; or a file of a run is
            a link or a special file.
    """

    def __init__(
        self, path: str, run: Mapping[str, Any], *, resume: bool = False, overwrite: bool = False
    ) -> None:
        self.path = Path(path)
        self.result = self.path / 'result.json'
        self.so_far = self.path / 'so_far.json'
        self.trace = self.path / 'trace.jsonl'
        self.timing = self.path / 'timing.jsonl'
        self.report = self.path / 'report.html'
        self.configs = self.path / 'configs'
        run = {'format': FORMAT, **run, 'threads': torch.get_num_threads()}
        # As JSON reads it back: tuples become lists.
        self.run: dict[str, Any] = json.loads(json.dumps(run))
        self.kept: list[dict[str, Any]] = []
        self.resumed = False
        self.seconds = 0.0
        self._lines: list[str] = []
        self._records: list[Mapping[str, Any]] = []
        try:
            with ExitStack() as stack:
                self.path.mkdir(parents=True, exist_ok=True)
                refuse_special_files(self.path / name for name in ('.lock', *NAMES))
                stack.enter_context(FileLock(self.path / '.lock', timeout=0))
                for name in NAMES:
                    for unfinished in self.path.glob(f'.{name}.????????'):
                        _remove(unfinished)
                    if overwrite:
                        _remove(self.path / name)
                self._open(resume)
                self._files = [
                    stack.enter_context(path.open('a', encoding='utf-8'))
                    for path in (self.trace, self.timing)
                ]
                self._opened = stack.pop_all()
        except Timeout:
            raise InputError(
                f'another process is at work in {path!r}: wait for it, or give another --work-dir'
            ) from None
        except OSError as error:
            raise InputError(
                f'work dir {path!r} cannot be written ({error.strerror}): give another'
            ) from None
        self._since = time.perf_counter()

    def __enter__(self) -> 'RunFolder':
        self._opened.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(self.run['threads'])
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

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
        line, number = json.dumps(record, allow_nan=False), len(self._records)
        now = time.perf_counter()
        if not self.replaying:
            taken = round(now - self._since, 3)
            timing = json.dumps({'line': number + 1, 'seconds': taken})
            for file, text in zip(self._files, (line, timing), strict=True):
                file.write(text + '\n')
                file.flush()
            self.seconds += taken
            # so_far.json of an interruption is out of date now.
            _remove(self.so_far)
        elif line != self._lines[number]:
            difference = first_difference(self.kept[number], json.loads(line))
            raise InputError(
                f'line {number + 1} of {self.trace} is not what this run gives '
                f'({difference or "the text differs"}): {ANOTHER}'
            )
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
            InputError: the trace has more records than this run, or result.json is there with another result.
        """
        if self.replaying:
            raise InputError(
                f'{self.trace} has {len(self._lines)} lines and this run gives '
                f'{len(self._records)}: {ANOTHER}'
            )
        _remove(self.so_far)
        if not self.result.exists():
            self._write(self.result, result)
            return
        theirs, mine = self._read_result(), json.loads(json.dumps(self._whole(result)))
        if difference := first_difference(theirs, mine):
            raise InputError(f'{self.result} is not what this run gives ({difference}): {_AGAIN}')

    def write_so_far(self, result: Mapping[str, Any]) -> None:
        """Write so_far.json, the result of the steps before an interruption."""
        if not self.result.exists():
            self._write(self.so_far, result)

    def is_complete(self) -> bool:
        """Whether the folder has the result of this run.

        Raises:
            InputError: result.json is of another run, or cannot be read.
        """
        if not self.result.exists():
            return False
        result = self._read_result()
        self._refuse_another(self.result, {key: result.get(key) for key in self.run})
        return True

    def _read_result(self) -> dict[str, Any]:
        return read_object(self.result, _AGAIN)

    def _whole(self, result: Mapping[str, Any]) -> dict[str, Any]:
        return {'task': self.run['task'], **result, **self.run}

    def _write(self, path: Path, result: Mapping[str, Any]) -> None:
        atomic_write_json(path, self._whole(result))

    def _open(self, resume: bool) -> None:
        file = self.path / 'run.json'
        found = [path for name in NAMES if (path := self.path / name).exists()]
        if found and not resume:
            raise InputError(
                f'{found[0]} exists already: give --resume to go on with that run, --overwrite to '
                'replace it, or another --work-dir'
            )
        if not found:
            atomic_write_json(file, self.run)
            return
        for path in found:
            if path.is_dir() != (path == self.configs):
                kind, other = ('folder', 'file') if path.is_dir() else ('file', 'folder')
                raise InputError(f'{path} is a {kind} and should be a {other}: {ANOTHER}')
        if not file.exists():
            raise InputError(
                f'{found[0]} is there without a run.json, which says of which run it is: {ANOTHER}'
            )
        theirs = read_object(file, ANOTHER)
        if type(threads := theirs.get('threads')) is int and threads > 0:
            self.run['threads'] = threads
        self._refuse_another(file, theirs)
        if NOT_COMPARED in theirs:
            self.run[NOT_COMPARED] = theirs[NOT_COMPARED]
        self._lines = _whole_lines(self.trace)
        self.kept = _objects(self.trace, self._lines)
        for record in _objects(self.timing, _whole_lines(self.timing)):
            taken = record.get('seconds')
            self.seconds += taken if isinstance(taken, float) else 0.0
        self.resumed = True

    def _refuse_another(self, path: Path, theirs: Mapping[str, Any]) -> None:
        mine = {**self.run, NOT_COMPARED: theirs.get(NOT_COMPARED)}
        if difference := first_difference(theirs, mine):
            raise InputError(
                f'{path} is of another run ({difference}): resume it with its own settings and '
                f'versions, {ANOTHER}'
            )


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
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
