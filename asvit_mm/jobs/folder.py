"""The folder of a run: result.json, trace.jsonl, configs/ and pictures."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import InputError
from ..files import atomic_directory, atomic_write_json

PICTURES = ('search.png', 'scaling.png')


class RunFolder:
    """Creates the folder, refuses one with results, appends the trace; a context manager.

    Args:
        path: the folder.
        overwrite: whether what an earlier run wrote there is removed.

    Raises:
        InputError: the folder cannot be written, or holds results already.
    """

    def __init__(self, path: str, overwrite: bool = False) -> None:
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            left = [p for p in (self.result, self.trace, self.configs) if p.exists()]
            if left and not overwrite:
                raise InputError(
                    f'{left[0]} exists already: give another --work-dir, or --overwrite'
                )
            self._remove_earlier()
            self._file = self.trace.open('w', encoding='utf-8')
        except OSError as error:
            raise InputError(
                f'work dir {str(self.path)!r} cannot be written ({error.strerror}): give another'
            ) from None

    @property
    def result(self) -> Path:
        """The result's file."""
        return self.path / 'result.json'

    @property
    def trace(self) -> Path:
        """The trace's file, one JSON object a line, one line a step."""
        return self.path / 'trace.jsonl'

    @property
    def configs(self) -> Path:
        """The folder of the written configs."""
        return self.path / 'configs'

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a step to the trace; it is in the file when this returns."""
        self._file.write(json.dumps(record, allow_nan=False) + '\n')
        self._file.flush()

    def write_configs(self, texts: Mapping[str, str]) -> None:
        """Write the configs (file name to text), all of them or none."""
        with atomic_directory(self.configs) as folder:
            for name, text in texts.items():
                (folder / name).write_text(text, encoding='utf-8')

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write result.json, which says by being there that the run is complete."""
        atomic_write_json(self.result, result)

    def __enter__(self) -> 'RunFolder':
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def _remove_earlier(self) -> None:
        shutil.rmtree(self.configs, ignore_errors=True)
        for file in (self.result, self.trace, *(self.path / name for name in PICTURES)):
            file.unlink(missing_ok=True)
