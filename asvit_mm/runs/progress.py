"""What a run shows: a progress bar on a terminal and in a notebook, a line now and then in a log."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LOG_LINES = 10


class Screen:
    """Shows how far a run is and what is best so far.

    Args:
        title: what the bar is called.
        total: what the run counts up to.
        counts: whether the bar says 120/500 or 24 %.
        console: where to; None: the terminal, the notebook's cell or the log that output goes to.

    Attributes:
        has_bar: whether there is a bar; otherwise there are lines, ten at most.
    """

    def __init__(
        self, title: str, total: float, *, counts: bool = True, console: Console | None = None
    ) -> None:
        self.console = console or Console(highlight=False)
        self.has_bar = _can_redraw(self.console)
        amount = MofNCompleteColumn() if counts else TaskProgressColumn()
        self._progress = Progress(
            TextColumn('{task.description}'),
            BarColumn(bar_width=24),
            amount,
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn('{task.fields[best]}', markup=False),
            console=self.console,
        )
        self._task = self._progress.add_task(title, total=total, best='')
        self._title, self._total, self._shown = title, total, 0

    @contextmanager
    def shown(self) -> Iterator['Screen']:
        """Show the bar within the block, where there is one."""
        if not self.has_bar:
            yield self
            return
        with self._progress:
            try:
                yield self
            finally:
                # In a notebook rich leaves the bar as it was up to a quarter of a second before the end.
                self._progress.refresh()

    def update(self, done: float, best: str) -> None:
        """Move the bar to ``done`` and show ``best``."""
        self._progress.update(self._task, completed=min(done, self._total), best=best)
        share = int(LOG_LINES * done / self._total)
        if not self.has_bar and share > self._shown:
            self._shown = share
            print(f'{self._title}: {min(done / self._total, 1):4.0%}  {best}', flush=True)


def _can_redraw(console: Console) -> bool:
    """Whether what was printed can be replaced: on a terminal, and in a notebook by ipywidgets.

    Without ipywidgets rich would warn and show nothing.
    """
    if console.is_jupyter:
        return find_spec('ipywidgets') is not None
    return console.is_terminal and not console.is_dumb_terminal


@contextmanager
def printed_warnings() -> Iterator[None]:
    """Print each warning of the block to stderr once, in one line, at its end."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always', UserWarning)
        yield
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        print(f'warning: {message}', file=sys.stderr)


def print_summary(rows: dict[str, str]) -> None:
    """Print names and values in two columns; nothing is wrapped, so commands can be copied."""
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f'{name:<{width}}  {value}')


def figure(value: float | None) -> str:
    """A measured value for people; a dash where there is none."""
    return '-' if value is None else f'{value:.4g}'
